"""Each alert brought about for real, with Prometheus and Alertmanager running, and whether it comes and goes."""

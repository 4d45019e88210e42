"""Fuzz: our inputs, written by somebody who means us no good."""

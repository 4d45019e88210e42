"""The commands of `stillwatch`, a family a module. Imports of the detector wait inside the functions."""

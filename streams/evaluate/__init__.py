"""The arena: attacks and honest traffic played against the detector and against what platforms have today."""

"""Records, protocols, errors, files and devices: what every other room builds on."""

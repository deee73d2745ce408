"""What an issue report needs to know about an installation, a machine and a run directory."""

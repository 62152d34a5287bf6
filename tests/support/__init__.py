"""What tests of the real thing share."""

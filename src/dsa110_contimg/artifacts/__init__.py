"""What stages make and read, as frozen records: the ground floor of the stages."""

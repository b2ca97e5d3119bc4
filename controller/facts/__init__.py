"""What a change is, read off the texts of both trees. Pure: knows neither git nor the log, and runs nothing."""

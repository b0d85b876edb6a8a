"""A realtime service to test against: real WebSocket, real voice detection, answers and faults as a file says."""

cpdef str seconds_text(event_ns)

cpdef str seconds_text(event_ns)
cpdef str utc_text(at_ns, digits)

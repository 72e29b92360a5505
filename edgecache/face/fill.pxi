"""Fill: the one writer of an entry that is reserved or filling (see _core.pyi)."""


cdef class Fill:
    cdef Plane plane
    cdef Entry *entry
    cdef bytes fields

    def __dealloc__(self):
        if self.entry != NULL:
            with nogil:
                if entry_state(self.entry) <= ENTRY_FILLING:
                    fill_fail(&self.plane.native, self.entry, 502, 0)
                entry_release(self.entry)

    @property
    def key(self):
        return _bytes(self.entry.key, self.entry.key_len)

    @property
    def filled(self):
        return entry_filled(self.entry) if entry_state(self.entry) in (ENTRY_FILLING,
                                                                       ENTRY_COMPLETE) else 0

    @property
    def waiters(self):
        return load_relaxed_u32(&self.entry.waiters)

    @property
    def live(self):
        return not entry_dead(self.entry) and entry_state(self.entry) <= ENTRY_FILLING

    def begin(self, int status, bytes fields, *, int64_t length=-1, bytes etag=b"", int64_t ttl_ms,
              int64_t grace_ms=0):
        cdef Slice head = _slice(fields)
        cdef Slice tag = _slice(etag)
        cdef Stamp stamp = _stamp(ttl_ms, grace_ms)
        cdef bint ours
        self.fields = fields
        with nogil:
            ours = fill_begin(&self.plane.native, self.entry, status, head, length, tag, stamp)
        return ours

    def append(self, const unsigned char[::1] data not None):
        cdef uint64_t length = data.shape[0]
        cdef const unsigned char *start = &data[0] if length else NULL
        cdef bint done
        with nogil:
            done = fill_append(&self.plane.native, self.entry, start,
                               length) if length else entry_state(self.entry) == ENTRY_FILLING
        return done

    def view(self, bytes key, uint64_t offset, uint64_t length, bytes fields, *, bytes etag,
             int64_t ttl_ms):
        cdef Slice name = _slice(key)
        cdef Slice head = _slice(fields)
        cdef Slice tag = _slice(etag)
        cdef Stamp stamp = _stamp(ttl_ms, 0)
        cdef int result
        if self.entry.blob == NULL or offset + length > entry_filled(self.entry) or not length:
            raise ValueError(
                f"view [{offset}, {offset + length}) is outside the {self.filled} bytes filled")
        with nogil:
            result = fill_view(&self.plane.native, self.entry, name, offset, length, head, tag,
                               stamp)
        return result

    def commit(self, *, bytes etag=b""):
        cdef Slice tag = _slice(etag)
        cdef Slice head = _slice(self.fields or b"")
        cdef bint filling = entry_state(self.entry) == ENTRY_FILLING
        cdef int64_t announced = self.entry.length
        cdef bint done
        if filling and announced >= 0 and <uint64_t>announced != entry_filled(self.entry):
            raise ValueError(f"body has {self.filled} bytes, {announced} were announced")
        with nogil:
            done = fill_commit(&self.plane.native, self.entry, head, tag)
        return done

    def fail(self, int status, *, uint64_t ttl_ms=0):
        with nogil:
            fill_fail(&self.plane.native, self.entry, status, ttl_ms)


cdef Fill _fill(Plane plane, Entry *entry):
    cdef Fill fill = Fill.__new__(Fill)
    fill.plane = plane
    fill.entry = entry
    return fill

"""Fill: the one writer of an entry that is reserved or filling (see _core.pyi)."""


@no_gc_clear                              # __dealloc__ needs the plane
cdef class Fill:
    cdef Plane plane
    cdef Entry *entry
    cdef bytes fields
    cdef bytes etag
    cdef bint begun

    def __dealloc__(self):
        if self.entry != NULL:
            with nogil:
                if self.owns():
                    fill_fail(&self.plane.native, self.entry, 502, 0)
                entry_release(self.entry)

    cdef bint owns(self) noexcept nogil:
        """A miss and a push may both hold the same reserved entry: who begins has it alone."""
        return entry_state(self.entry) == (ENTRY_FILLING if self.begun else ENTRY_RESERVED)

    @property
    def key(self):
        return _bytes(self.entry.key, self.entry.key_len)

    @property
    def loop(self):
        cdef Slice loop = entry_loop(self.entry)
        return _bytes(loop.data, loop.len)

    @property
    def stale(self):
        cdef Entry *stale = self.entry.stale
        cdef Slice given
        cdef Slice tag
        cdef int64_t now_us = clock_us()
        cdef int64_t until_ms
        if stale == NULL or self.begun or not self.owns():
            return None
        given = head_own_fields(entry_head(stale))
        tag = head_etag(entry_head(stale))
        until_ms = stale.drop_ms + stale.spare_ms
        return {
            "fields": _bytes(given.data, given.len),
            "etag": b"" if stale.own_tag else _bytes(tag.data, tag.len).strip(b'"'),
            "age_ms": (now_us - stale.stored_us) // 1000,
            "past_ms": max(0, now_us // 1000 - <int64_t>load_relaxed_u64(&stale.expires_ms)),
            "left_ms": max(0, until_ms - now_us // 1000),
        }

    def renew(self, bytes fields, *, int64_t ttl_ms, int64_t grace_ms=0, int64_t age_ms=0,
              int64_t spare_ms=0, uint64_t again_ms=0):
        cdef Slice head = _slice(fields)
        cdef Stamp stamp = _stamp(ttl_ms, grace_ms, age_ms, spare_ms)
        cdef bint done
        if self.begun or not self.owns():
            return False
        with nogil:
            done = fill_renew(&self.plane.native, self.entry, head, stamp, again_ms)
        self.plane._changed()
        return done

    @property
    def filled(self):
        cdef int state = entry_state(self.entry)
        ended = state != ENTRY_FILLING and state != ENTRY_COMPLETE
        return 0 if ended or not self.begun else entry_filled(self.entry)

    @property
    def waiters(self):
        return load_relaxed_u32(&self.entry.waiters)

    @property
    def live(self):
        return not entry_dead(self.entry) and self.owns()

    def begin(self, int status, bytes fields, *, int64_t length=-1, bytes etag=b"", int64_t ttl_ms,
              int64_t grace_ms=0, int64_t age_ms=0, int64_t spare_ms=0, bint pushed=False):
        cdef Slice head = _slice(fields)
        cdef Slice tag = _slice(etag)
        cdef Stamp stamp = _stamp(ttl_ms, grace_ms, age_ms, spare_ms)
        _status(status)
        if self.begun or not self.owns():
            return False
        self.fields, self.etag = fields, etag
        with nogil:
            self.begun = fill_begin(&self.plane.native, self.entry, status, head, length, tag,
                                    stamp, pushed)
        return self.begun

    def append(self, const unsigned char[::1] data not None):
        cdef uint64_t length = data.shape[0]
        cdef const unsigned char *start = &data[0] if length else NULL
        cdef bint done
        if not self.begun or not self.owns():
            return False
        with nogil:
            done = not length or fill_append(&self.plane.native, self.entry, start, length)
        return done

    def view(self, bytes key, uint64_t offset, uint64_t length, bytes fields, *, bytes etag,
             int64_t ttl_ms):
        cdef Slice name = _slice(key)
        cdef Slice head = _slice(fields)
        cdef Slice tag = _slice(etag)
        cdef Stamp stamp = _stamp(ttl_ms, 0)
        cdef int result
        cdef uint64_t filled = entry_filled(self.entry) if self.begun else 0
        if not length or length > filled or offset > filled - length:
            raise ValueError(
                f"view of {length} bytes at {offset} is outside the {filled} bytes filled")
        with nogil:
            result = fill_view(&self.plane.native, self.entry, name, offset, length, head, tag,
                               stamp)
        self.plane._changed()
        return result

    def commit(self, *, bytes etag=b""):
        cdef Slice tag = _slice(etag)
        cdef Slice head
        cdef bint made = len(etag) > 0
        cdef int64_t announced = self.entry.length
        cdef bint done
        if not self.begun or not self.owns():
            return False
        head = _slice(self.fields)
        if announced < 0 and not etag:
            tag = _slice(self.etag)
        if announced >= 0 and <uint64_t>announced != entry_filled(self.entry):
            raise ValueError(f"body has {self.filled} bytes, {announced} were announced")
        with nogil:
            done = fill_commit(&self.plane.native, self.entry, head, tag, made)
        self.plane._changed()
        return done

    def grown(self, uint64_t filled):
        if self.begun and self.owns() and filled > entry_filled(self.entry):
            with nogil:
                fill_grown(&self.plane.native, self.entry, filled)

    def fail(self, int status, *, uint64_t ttl_ms=0):
        _status(status)
        if self.owns():
            with nogil:
                fill_fail(&self.plane.native, self.entry, status, ttl_ms)


cdef Fill _fill(Plane plane, Entry *entry):
    cdef Fill fill = Fill.__new__(Fill)
    fill.plane = plane
    fill.entry = entry
    return fill

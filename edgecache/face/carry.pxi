"""What goes from one process to its successor, as Python sees it (see _core.pyi)."""


@no_gc_clear                              # __dealloc__ needs the plane
cdef class Holding:
    cdef Plane plane
    cdef Entry *entry

    def __dealloc__(self):
        if self.entry != NULL:
            entry_release(self.entry)

    @property
    def key(self):
        return _bytes(self.entry.key, self.entry.key_len)

    @property
    def state(self):
        return STATES.get(entry_state(self.entry), b"failed")

    @property
    def parent(self):
        cdef Entry *parent = self.entry.parent
        return _bytes(parent.key, parent.key_len) if parent != NULL else None

    @property
    def slot(self):
        cdef Deposit *deposit = &self.plane.native.store.deposit
        return self.entry.mark - deposit.marks if self.entry.mark != NULL else -1

    def keep(self, uint64_t copied, int64_t slot=-1):
        if not -1 <= slot < <int64_t>self.plane.native.store.deposit.room:
            raise ValueError(f"slot {slot} is none")
        return store_keep(&self.plane.native.store, self.entry, slot, copied)

    @property
    def fd(self):
        return self.entry.blob.fd if self.entry.blob != NULL else -1

    def body(self):
        cdef Blob *blob = self.entry.blob
        if blob.fd >= 0 or self.entry.parent != NULL:
            return b""
        return _bytes(blob.data + self.entry.offset, entry_filled(self.entry))

    def facts(self):
        cdef Head *head = entry_head(self.entry)
        cdef Slice fields = head_own_fields(head)
        cdef Slice etag = head_etag(head)
        return {
            "status": self.entry.status,
            "offset": self.entry.offset,
            "length": entry_filled(self.entry),
            "stored_us": self.entry.stored_us,
            "expires_ms": load_relaxed_u64(&self.entry.expires_ms),
            "drop_ms": self.entry.drop_ms,
            "pushed": bool(self.entry.pushed),
            "fields": _bytes(fields.data, fields.len),
            "etag": _bytes(etag.data + 1, etag.len - 2) if etag.len else b"",
        }

    def version(self):
        cdef LiveVersion *version
        cdef Rendering *rendering
        cdef Slice fields
        cdef Slice etag
        cdef uint64_t seq
        cdef uint64_t now_us = clock_us()
        with nogil:
            version = store_version(&self.plane.native.store, self.entry, &seq)
        left_ms = <int64_t>load_relaxed_u64(&self.entry.expires_ms) - <int64_t>(now_us // 1000)
        found = {
            "msn": version.msn, "parts": version.parts, "last_parts": version.last_parts,
            "hold_ms": version.hold_ms, "advance": version.advance, "ended": bool(version.ended),
            "pulled": bool(version.pulled), "ttl_ms": max(0, left_ms),
            "age_ms": (now_us - version.published_us) // 1000,
            "fields": [], "bodies": [], "etags": [],
        }
        for i in range(VARIANTS):
            rendering = &version.renderings[i]
            offered = rendering.head != NULL
            if offered:
                fields, etag = head_own_fields(rendering.head), head_etag(rendering.head)
            found["fields"].append(_bytes(fields.data, fields.len) if offered else None)
            found["etags"].append(_bytes(etag.data + 1, etag.len - 2) if offered else None)
            found["bodies"].append(_bytes(rendering.body, rendering.len) if offered else None)
        version_release(version)
        return found


cdef Holding _holding(Plane plane, Entry *entry):
    cdef Holding holding = Holding.__new__(Holding)
    holding.plane = plane
    holding.entry = entry
    return holding


def noted(Plane plane not None, int limit):
    cdef Entry *entry
    out = []
    while len(out) < limit:
        entry = store_noted(&plane.native.store)
        if entry == NULL:
            break
        out.append(_holding(plane, entry))
    return out


def holdings(Plane plane not None):
    cdef size_t room = load_relaxed_u64(&plane.native.store.entries) + 64
    cdef Entry **found = <Entry **>calloc(room, sizeof(Entry *))
    cdef size_t n
    if found == NULL:
        raise MemoryError("no memory for a list of entries")
    with nogil:
        n = store_gather(&plane.native.store, found, room)
    out = []
    for i in range(n):
        out.append(_holding(plane, found[i]))
    free(found)
    return out


cdef Blob *_blob(Plane plane, Fill parent, int fd, bytes body, uint64_t size,
                 bint sealed) except? NULL:
    cdef Blob *blob
    if parent is not None:
        blob_acquire(parent.entry.blob)
        return parent.entry.blob
    if fd >= 0:
        blob = blob_adopt(fd, size, sealed, &plane.native.store.used)
        if blob == NULL:
            close(fd)
        return blob
    blob = blob_new_heap(len(body), &plane.native.store.used)
    if blob != NULL:
        blob_append(blob, _slice(body).data, len(body))
    return blob


def restore(Plane plane not None, bytes key, *, int status, uint64_t offset, int64_t length,
            uint64_t stored_us, uint64_t expires_ms, uint64_t drop_ms, bint pushed, bytes fields,
            bytes etag, int fd=-1, bytes body=b"", Fill parent=None, bint growing=False):
    cdef Slice name = _slice(key)
    cdef Slice head = _slice(fields)
    cdef Slice tag = _slice(etag)
    cdef Facts facts = Facts(status, offset, length, stored_us, expires_ms, drop_ms, pushed)
    cdef Blob *blob
    cdef Entry *entry
    cdef Entry *of = parent.entry if parent is not None else NULL
    cdef Fill fill
    if length < 0 or (of != NULL and offset + <uint64_t>length > blob_filled(of.blob)):
        raise ValueError(f"{length} bytes at {offset} are not there")
    blob = _blob(plane, parent, fd, body, offset + <uint64_t>length, not growing)
    if blob == NULL:
        return None
    with nogil:
        if growing:
            entry = plane_restore_growing(&plane.native, name, blob, &facts, head)
        else:
            entry = plane_restore(&plane.native, name, of, blob, &facts, head, tag)
    if entry == NULL:
        return None
    fill = _fill(plane, entry)
    fill.begun, fill.fields, fill.etag = growing, fields, etag
    return fill

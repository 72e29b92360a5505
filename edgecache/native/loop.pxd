"""Loop: which of our caches a request has come through, as its CDN-Loop fields say (RFC 8586).

Law: one that has been here is answered 508, and so is one that came through too many. Of what a
request says only members of our own form are kept, to be told to who is asked next: other bytes of
a viewer reach no origin. Bounds: LOOP_MEMBERS, LOOP_BYTES (508). """
from libc.string cimport memchr, memcmp, memcpy
from edgecache.native.request cimport name_is, next_element, trim
from edgecache.native.types cimport Slice, cbyte, slice_equal, slice_of


cdef enum:
    LOOP_MEMBERS = 8
    LOOP_BYTES = 512
    LOOP_ID_BYTES = 96                   # edgecache-<name>-<8 hex>, at most


cdef struct Loop:                        # "a, b": the caches it came through, in our form
    int members
    size_t len
    unsigned char text[LOOP_BYTES]


cdef inline bint _ours(Slice member) noexcept nogil:
    """Is it written as we write ours?"""
    cdef size_t i
    cdef unsigned char c
    if not 10 < member.len <= LOOP_ID_BYTES or memcmp(member.data, b"edgecache-", 10) != 0:
        return False
    for i in range(member.len):
        c = member.data[i]
        if not (97 <= c <= 122 or 48 <= c <= 57 or c == 45 or c == 95):
            return False
    return True


cdef inline bint _keep(Loop *loop, Slice member) noexcept nogil:
    """False: one too many."""
    if loop.members == LOOP_MEMBERS or loop.len + member.len + 2 > LOOP_BYTES:
        return False
    if loop.members:
        memcpy(loop.text + loop.len, b", ", 2)
        loop.len += 2
    memcpy(loop.text + loop.len, member.data, member.len)
    loop.len += member.len
    loop.members += 1
    return True


cdef inline bint _closes(Slice value, Slice own, Loop *loop) noexcept nogil:
    """One field value: members with parameters behind ";" (RFC 8586 2)."""
    cdef Slice member
    cdef cbyte *mark
    while next_element(&value, &member):
        mark = <cbyte *>memchr(member.data, 59, member.len)
        if mark != NULL:
            member = trim(slice_of(member.data, mark - member.data))
        if own.len and slice_equal(member, own):
            return True
        if _ours(member) and not _keep(loop, member):
            return True
    return False


cdef inline bint loop_closes(cbyte *head, size_t head_len, Slice own, Loop *loop) noexcept nogil:
    """Has a request with this head, which request_parse() accepted, been here? Fills *loop."""
    cdef cbyte *p = head
    cdef cbyte *end = head + head_len
    cdef cbyte *lf
    cdef cbyte *colon
    loop.members = 0
    loop.len = 0
    while p < end:
        lf = <cbyte *>memchr(p, 10, end - p)
        if lf == NULL:
            break
        colon = <cbyte *>memchr(p, 58, lf - p)
        if (colon != NULL and name_is(slice_of(p, colon - p), b"cdn-loop", 8)
                and _closes(trim(slice_of(colon + 1, lf - 1 - (colon + 1))), own, loop)):
            return True
        p = lf + 1
    return False

"""Forwarded: whom a request is from, by the word of a proxy of ours (RFC 7239, or the older
X-Forwarded-For).

The last address in the field that is no proxy of ours is the viewer: what stands before it was
written by somebody we do not know. Of a field that came in several lines the last one counts. What
is not an address (`unknown`, an obfuscated name, garbage) ends the search: nobody told.

Law: pure; no allocation. Which field is believed is a setting, never what happens to be there: a
proxy that writes the one may pass on the other as its client sent it. """
from libc.string cimport memchr
from edgecache.native.address cimport Address, address_parse
from edgecache.native.door cimport Door, door_trusts
from edgecache.native.request cimport trim
from edgecache.native.sys cimport AF_INET, AF_INET6
from edgecache.native.types cimport Slice, cbyte, slice_of


cdef extern from "string.h" nogil:
    void *memrchr(const void *data, int c, size_t n)


cdef extern from "strings.h" nogil:
    int strncasecmp(const char *a, const char *b, size_t n)


cdef inline Slice _last(Slice *rest) noexcept nogil:
    """The last element of a list, trimmed; rest.data is NULL when it was the first one too."""
    cdef cbyte *comma = <cbyte *>memrchr(rest.data, 44, rest.len)
    cdef Slice element
    if comma == NULL:
        element = trim(rest[0])
        rest.data = NULL
        return element
    element = trim(slice_of(comma + 1, rest.data + rest.len - (comma + 1)))
    rest.len = comma - rest.data
    return element


cdef inline Slice _for(Slice element) noexcept nogil:
    """The value of `for` among the pairs of one element (RFC 7239 4), without quotes; empty: none.
    """
    cdef cbyte *semicolon
    cdef Slice pair
    while element.len:
        semicolon = <cbyte *>memchr(element.data, 59, element.len)
        pair = element
        if semicolon != NULL:
            pair.len = semicolon - element.data
        pair = trim(pair)
        if pair.len > 4 and strncasecmp(<const char *>pair.data, b"for=", 4) == 0:
            pair = slice_of(pair.data + 4, pair.len - 4)
            if pair.len >= 2 and pair.data[0] == 34 and pair.data[pair.len - 1] == 34:
                pair = slice_of(pair.data + 1, pair.len - 2)
            return pair
        if semicolon == NULL:
            break
        element = slice_of(semicolon + 1, element.data + element.len - (semicolon + 1))
    return slice_of(element.data, 0)


cdef inline bint _node(Slice node, Address *out) noexcept nogil:
    """An IP address; an IPv6 one may stand in brackets, and a port behind (RFC 7239 6)."""
    cdef cbyte *end
    if node.len and node.data[0] == 91:                  # [
        end = <cbyte *>memchr(node.data, 93, node.len)
        return end != NULL and address_parse(slice_of(node.data + 1, end - (node.data + 1)),
                                             AF_INET6, out)
    if address_parse(node, AF_INET6, out):               # X-Forwarded-For has them bare
        return True
    end = <cbyte *>memchr(node.data, 58, node.len) if node.len else NULL
    if end != NULL:
        node.len = end - node.data
    return address_parse(node, AF_INET, out)


cdef inline bint forwarded_client(Slice value, bint pairs, const Door *door,
                                  Address *client) noexcept nogil:
    """`pairs`: the field is Forwarded, not X-Forwarded-For. False: nobody told."""
    cdef Slice element
    while value.data != NULL:
        element = _last(&value)
        if not _node(_for(element) if pairs else element, client):
            return False
        if not door_trusts(door, client[0]):
            return True
    return True

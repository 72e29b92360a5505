"""Hosts: the names that we go by. A request that names another one was sent to the wrong server
(421, RFC 9110 15.5.20).

Law: filled in before the workers start and read-only from then on; none: we go by any. A name is
what stands before the port, compared without case. Bounds: HOSTS_MAX, HOST_BYTES. What it does not
know: which field of a request names us.
"""
from libc.string cimport memcpy
from edgecache.native.request cimport name_is
from edgecache.native.types cimport Slice, slice_of


cdef enum:
    HOSTS_MAX = 65                       # of the configuration, and the one our siblings ask for
    HOST_BYTES = 253                     # the longest name that DNS can say (RFC 1035 2.3.4)


cdef struct HostName:
    bint below                           # it was `*.example.org`; kept is `.example.org`
    size_t len
    unsigned char bytes[HOST_BYTES]


cdef struct Hosts:
    int count
    HostName names[HOSTS_MAX]


cdef inline const char *host_again() noexcept nogil:
    """In requests that our predecessor took and wrote once more (again.pxd), whatever the names it
    went by: nobody's (RFC 2606 2), and always ours."""
    return b"again.invalid"


cdef inline bint hosts_add(Hosts *hosts, Slice name) noexcept nogil:
    """`example.org`, or `*.example.org` for every name below it. False: it does not fit."""
    cdef HostName *host
    if hosts.count == HOSTS_MAX or not 0 < name.len <= HOST_BYTES:
        return False
    host = &hosts.names[hosts.count]
    host.below = name.data[0] == 42
    host.len = name.len - host.below
    memcpy(host.bytes, name.data + host.below, host.len)
    hosts.count += 1
    return True


cdef inline Slice _without_port(Slice host) noexcept nogil:
    cdef size_t n = host.len
    while n and 48 <= host.data[n - 1] <= 57:
        n -= 1
    if n and host.data[n - 1] == 58:
        host.len = n - 1
    return host


cdef inline bint hosts_have(const Hosts *hosts, Slice host) noexcept nogil:
    """`host`: name and perhaps a port; empty: the request names nobody, so no other either."""
    cdef const HostName *own
    cdef Slice name = _without_port(host)
    cdef Slice end
    cdef int i
    if not hosts.count or not name.len or name_is(name, host_again(), 13):
        return True
    for i in range(hosts.count):
        own = &hosts.names[i]
        end = name
        if own.below and name.len > own.len:
            end = slice_of(name.data + name.len - own.len, own.len)
        elif own.below:
            continue
        if name_is(end, <const char *>own.bytes, own.len):
            return True
    return False

"""Keep: which parameters of a query belong to a name, by prefix of the path.

A query is dropped, but for the LL-HLS directives (target.pxd), unless a route of the configuration
names some of its parameters. Those become part of the key and of the origin request, in the order
of the route and each once, so that nothing unkeyed exists.

Law: filled in before a worker reads it, read-only while one may (worker_reroute). The rules are
ordered: the first prefix that fits decides, also when it names nothing. """
from libc.string cimport memchr, memcmp, memcpy, memset
from edgecache.native.types cimport Slice, cbyte, slice_of


cdef enum:
    KEEP_RULES = 16
    KEEP_NAMES = 8
    KEEP_PREFIX_BYTES = 128
    KEEP_NAME_BYTES = 32


cdef struct KeepName:
    size_t len
    unsigned char bytes[KEEP_NAME_BYTES]


cdef struct KeepRule:
    bint site                            # the control plane answers (guest.pxd)
    size_t prefix_len
    unsigned char prefix[KEEP_PREFIX_BYTES]
    int count
    KeepName names[KEEP_NAMES]


cdef struct Keep:
    int count
    bint sites                           # is any rule a site's?
    KeepRule rules[KEEP_RULES]


cdef inline bint keep_rule(Keep *keep, Slice prefix, bint site) noexcept nogil:
    """A rule behind those there. False: it does not fit."""
    cdef KeepRule *rule
    if keep.count == KEEP_RULES or not 0 < prefix.len <= KEEP_PREFIX_BYTES:
        return False
    rule = &keep.rules[keep.count]
    memset(rule, 0, sizeof(KeepRule))
    memcpy(rule.prefix, prefix.data, prefix.len)
    rule.prefix_len = prefix.len
    rule.site = site
    keep.sites = keep.sites or site
    keep.count += 1
    return True


cdef inline bint keep_name(Keep *keep, Slice name) noexcept nogil:
    """A parameter of the last rule. False: it does not fit."""
    cdef KeepRule *rule = &keep.rules[keep.count - 1]
    cdef KeepName *kept
    if rule.count == KEEP_NAMES or not 0 < name.len <= KEEP_NAME_BYTES:
        return False
    kept = &rule.names[rule.count]
    memcpy(kept.bytes, name.data, name.len)
    kept.len = name.len
    rule.count += 1
    return True


cdef inline KeepRule *_rule_of(Keep *keep, Slice path) noexcept nogil:
    cdef KeepRule *rule
    cdef int i
    for i in range(keep.count):
        rule = &keep.rules[i]
        if path.len >= rule.prefix_len and memcmp(path.data, rule.prefix, rule.prefix_len) == 0:
            return rule
    return NULL


cdef inline bint keep_is_site(Keep *keep, Slice path) noexcept nogil:
    cdef KeepRule *rule = _rule_of(keep, path)
    return rule != NULL and rule.site


cdef inline Slice _parameter(Slice query, KeepName *name) noexcept nogil:
    """The first `name=value` of a query; data NULL: not there."""
    cdef cbyte *amp
    cdef size_t length
    while query.data != NULL:
        amp = <cbyte *>memchr(query.data, 38, query.len)
        length = amp - query.data if amp != NULL else query.len
        if (length > name.len and query.data[name.len] == 61
                and memcmp(query.data, name.bytes, name.len) == 0):
            return slice_of(query.data, length)
        if amp == NULL:
            break
        query = slice_of(amp + 1, query.len - length - 1)
    return slice_of(NULL, 0)


cdef inline size_t keep_write(Keep *keep, Slice path, Slice query,
                              unsigned char *out) noexcept nogil:
    """`?a=1&b=2` of what is kept: never longer than the query and its question mark."""
    cdef KeepRule *rule = _rule_of(keep, path)
    cdef Slice found
    cdef size_t n = 0
    cdef int i
    if rule == NULL:
        return 0
    for i in range(rule.count):
        found = _parameter(query, &rule.names[i])
        if found.data == NULL:
            continue
        out[n] = 38 if n else 63
        memcpy(out + n + 1, found.data, found.len)
        n += found.len + 1
    return n

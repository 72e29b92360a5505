"""Plane: one store and its workers, as Python sees them (see _core.pyi)."""


cdef class Plane:
    cdef NativePlane native
    cdef bint ready
    cdef bint log_on
    cdef bytes name
    cdef bytes id
    cdef list threads
    cdef object changed                  # called after what may have been noted; None: nobody keeps

    def __cinit__(self, *, bytes name, uint64_t budget_bytes, dict limits=None,
                  bint access_log=False, keep=(), sites=(), bytes id=b"", trusted=(),
                  hosts=()):
        values = {**DEFAULT_LIMITS, **(limits or {})}
        unknown = sorted(set(values) - set(DEFAULT_LIMITS))
        if unknown:
            raise ValueError(f"limits: unknown {unknown[0]!r}, allowed {', '.join(DEFAULT_LIMITS)}")
        if not 0 < len(name) <= NAME_BYTES:
            raise ValueError(f"name: found {len(name)} bytes, allowed 1 to {NAME_BYTES}")
        if not values["target_bytes"] <= values["header_bytes"] <= RX_BYTES // 4:
            raise ValueError(
                f"limits: header_bytes must be between target_bytes and {RX_BYTES // 4}: "
                f"found {values['header_bytes']}")
        if not plane_init(&self.native, budget_bytes):
            raise MemoryError("no memory or descriptors for a data plane")
        self.native.limits = values
        self._keep(&self.native.keeps[0], keep, sites)
        self._trust(trusted)
        for host in hosts:
            if not hosts_add(&self.native.hosts, _slice(host)):
                raise ValueError(f"hosts: found {host!r}, allowed {HOSTS_MAX} names of 1 to "
                                 f"{HOST_BYTES} bytes")
        self.id = id
        self.name, self.log_on, self.threads, self.ready = name, access_log, [], True

    def __dealloc__(self):
        if self.ready:
            plane_destroy(&self.native)

    cdef _keep(self, Keep *keep, rules, sites):
        memset(keep, 0, sizeof(Keep))
        for prefix, names in rules:
            if not keep_rule(keep, _slice(prefix), prefix in sites):
                raise ValueError(f"keep: {prefix!r} is too long, or one rule too many")
            for name in names:
                if not keep_name(keep, _slice(name)):
                    raise ValueError(f"keep: {name!r} is too long, or one name too many")

    def _trust(self, trusted):
        cdef Network network
        for address, bits in trusted:
            if len(address) != 16 or not 0 <= bits <= 128:
                raise ValueError(f"trusted: found {address!r}/{bits}, allowed 16 bytes, 0 to 128")
            network.base = address_v6(_slice(address).data)
            network.bits = bits
            if not door_trust(&self.native.door, network):
                raise ValueError(f"trusted: allowed {DOOR_NETWORKS} networks")

    @property
    def event_fd(self):
        return self.native.bell.fd

    def start(self, listen_fds):
        cdef Context *ctx
        if self.native.workers or not 0 < len(listen_fds) <= WORKERS_MAX:
            raise ValueError(
                f"start once, with 1 to {WORKERS_MAX} listening sockets: found {len(listen_fds)}")
        for index, fd in enumerate(listen_fds):
            ctx = worker_new(&self.native.store, &self.native.limits, &self.native.bell,
                             &self.native.post, _slice(self.name), index, fd, self.log_on)
            if ctx == NULL:
                self.stop()
                raise MemoryError("no memory or descriptors for a worker")
            ctx.keeps, ctx.routes = self.native.keeps, &self.native.routes
            worker_reroute(ctx)
            ctx.id = _slice(self.id)
            ctx.door, ctx.hosts = &self.native.door, &self.native.hosts
            self.native.contexts[index] = ctx
            self.native.post.boxes[index] = &ctx.down
            self.native.workers = index + 1
        for index in range(self.native.workers):
            thread = threading.Thread(target=self._run, args=(index,), name=f"worker-{index}")
            thread.start()
            self.threads.append(thread)

    def _run(self, int index):
        with nogil:
            worker_run(self.native.contexts[index])

    def reroute(self, keep, sites):
        cdef uint32_t other = 1 - self.native.routes
        if not plane_rerouted(&self.native):
            return False
        self._keep(&self.native.keeps[other], keep, sites)
        store_release_u32(&self.native.routes, other)
        for index in range(self.native.workers):
            bell_ring(&self.native.contexts[index].down.bell)
        for _turn in range(TURNS_MS):
            if plane_rerouted(&self.native):
                break
            time.sleep(0.001)
        return True

    def keep(self, int fd, size_t room, changed):
        if self.native.store.deposit.marks != NULL or not room:
            raise ValueError("keep once, with room for something")
        if not deposit_open(&self.native.store.deposit, fd, room):
            raise MemoryError("no memory for marks")
        self.changed = changed

    def keep_no_more(self):
        self.native.store.deposit.wanted, self.changed = False, None

    cdef _changed(self):
        if self.changed is not None:
            self.changed()

    def set_budget(self, uint64_t budget_bytes):
        store_relaxed_u64(&self.native.store.budget, budget_bytes)

    def evict(self):
        cdef bint done
        with nogil:
            store_make_room(&self.native.store, 0)
            done = load_relaxed_u64(&self.native.store.used) <= store_budget(&self.native.store)
        return done

    def set_connections(self, uint32_t connections):
        store_relaxed_u32(&self.native.limits.max_connections, connections)

    def close_idle(self):
        with nogil:
            plane_order(&self.native, MESSAGE_SHED)

    def hand_over(self):
        with nogil:
            plane_order(&self.native, MESSAGE_HAND)

    def drain(self):
        with nogil:
            plane_order(&self.native, MESSAGE_DRAIN)

    def stop(self):
        with nogil:
            plane_order(&self.native, MESSAGE_STOP)
        for thread in self.threads:
            thread.join()
        self.threads = []
        self.misses(1 << 30).clear()
        for index in range(self.native.workers):
            self.native.post.boxes[index] = NULL
            worker_free(self.native.contexts[index])
            self.native.contexts[index] = NULL
        self.native.workers = 0

    def misses(self, int limit=1024):
        cdef Entry *entry
        bell_answer(&self.native.bell)
        fills = []
        for index in range(self.native.workers):
            while len(fills) < limit:
                entry = up_take(&self.native.contexts[index].up)
                if entry == NULL:
                    break
                fills.append(_fill(self, entry))
        return fills

    def guests(self):
        cdef Guest *guest
        found = []
        for index in range(self.native.workers):
            guest = guest_take(&self.native.contexts[index].leaving)
            while guest != NULL:
                data = _bytes(guest.bytes, guest.len)
                found.append((guest.fd, data[:guest.head_len], data[guest.head_len:],
                              _text(guest.address)))
                free(guest)
                guest = guest_take(&self.native.contexts[index].leaving)
        return found

    def give_back(self, int fd, bytes unread, bytes client):
        cdef Guest *guest
        cdef Context *ctx
        cdef Address address
        cdef Slice text = _slice(client)
        if not address_parse(text, AF_INET, &address) and not address_parse(text, AF_INET6,
                                                                            &address):
            raise ValueError(f"client: found {client!r}, allowed what guests() said")
        if not self.native.workers or len(unread) > GUEST_BYTES:
            return False
        ctx = self.native.contexts[fd % self.native.workers]
        guest = guest_new(fd, address, slice_of(NULL, 0), _slice(unread), 0)
        if guest == NULL or not guest_put(&ctx.coming, guest):
            free(guest)
            return False
        bell_ring(&ctx.down.bell)
        return True

    def log_records(self, int limit=4096):
        cdef LogRecord *record
        records = []
        for index in range(self.native.workers):
            record = log_peek(&self.native.contexts[index].log)
            while record != NULL and len(records) < limit:
                records.append((record.wall_ns, record.duration_us, record.status, record.bytes_out,
                                record.cache, METHODS[record.method],
                                _bytes(record.target, record.target_len),
                                _text(record.client)))
                log_next(&self.native.contexts[index].log)
                record = log_peek(&self.native.contexts[index].log)
        return records

    def open(self, bytes key, *, bint unasked=False):
        cdef Slice name = _slice(key)
        cdef Entry *entry
        with nogil:
            entry = plane_open(&self.native, name, unasked)
        return _fill(self, entry) if entry != NULL else None

    def asked(self, bytes key):
        cdef Slice name = _slice(key)
        cdef bint asked
        with nogil:
            asked = plane_asked(&self.native, name)
        return asked

    def key(self, bytes target):
        cdef Slice raw = _slice(target)
        cdef Target parsed
        cdef bytearray buffer = bytearray(3 * len(target) + QUERY_BYTES)
        if (not target_parse(raw, &self.native.keeps[self.native.routes], buffer, &parsed)
                or parsed.bad_directives):
            return None
        return _bytes(parsed.full.data, parsed.full.len)

    def put(self, bytes key, const unsigned char[::1] body not None, bytes fields, *,
            int status=200, bytes etag, int64_t ttl_ms, int64_t grace_ms=0):
        cdef Slice name = _slice(key)
        cdef Slice head = _slice(fields)
        cdef Slice tag = _slice(etag)
        cdef Slice data = slice_of(&body[0] if body.shape[0] else NULL, body.shape[0])
        cdef Stamp stamp = _stamp(ttl_ms, grace_ms)
        cdef int result
        _status(status)
        with nogil:
            result = plane_put(&self.native, name, data, status, head, tag, stamp)
        self._changed()
        return result

    def publish(self, bytes key, *, uint64_t msn, uint32_t parts, uint32_t last_parts,
                uint32_t hold_ms, uint32_t advance, bint ended,
                int64_t ttl_ms, fields, bodies, etags, waited=(), uint64_t age_ms=0,
                bint pulled=False):
        cdef Slice body[VARIANTS]
        cdef Slice head[VARIANTS]
        cdef Slice wait[VARIANTS]
        cdef Slice tag[VARIANTS]
        cdef Slice name = _slice(key)
        cdef LiveVersion *version
        cdef Stamp stamp = _stamp(ttl_ms, 0)
        cdef int result
        offered = len(bodies)
        if (not len(fields) == offered == len(etags) or not 0 < offered <= VARIANTS
                or bodies[0] is None or (waited and len(waited) != offered)):
            raise ValueError(
                f"fields, bodies and etags are up to {VARIANTS} each, the first body not None")
        for i in range(VARIANTS):
            body[i] = slice_of(NULL, 0)
            wait[i] = slice_of(NULL, 0)
            if i < offered and bodies[i] is not None:
                body[i], head[i], tag[i] = _slice(bodies[i]), _slice(fields[i]), _slice(etags[i])
                if waited:
                    wait[i] = _slice(waited[i])
        version = version_new(body, head, wait, tag, &self.native.store.used)
        if version == NULL:
            return _PUT_NO_SPACE
        version.msn, version.parts, version.last_parts = msn, parts, last_parts
        version.hold_ms, version.advance, version.ended = hold_ms, advance, ended
        version.pulled = pulled
        with nogil:
            result = plane_publish(&self.native, name, version, stamp.ttl_ms, age_ms)
        self._changed()
        return result

    def version(self, bytes key):
        cdef Entry *entry = self._find(key)
        cdef LiveVersion *version
        cdef uint64_t seq
        if entry == NULL:
            return None
        found = None
        if entry_state(entry) == ENTRY_LIVE:
            with nogil:
                version = store_version(&self.native.store, entry, &seq)
            found = (version.msn, version.parts, version.last_parts)
            version_release(version)
        entry_release(entry)
        return found

    cdef Entry *_find(self, bytes key):
        cdef Slice name = _slice(key)
        cdef Entry *entry
        with nogil:
            entry = plane_find(&self.native, name)
        return entry

    def lookup(self, bytes key):
        cdef Entry *entry = self._find(key)
        cdef uint64_t now_us = clock_us()
        cdef int state
        if entry == NULL:
            return None
        state = entry_state(entry)
        bodied = state in (ENTRY_FILLING, ENTRY_COMPLETE)
        ttl_ms = <int64_t>load_relaxed_u64(&entry.expires_ms) - <int64_t>(now_us // 1000)
        found = {
            "state": STATES.get(state, b"failed"),
            "status": entry.status if state in STATES else entry.failed_status,
            "waiters": load_relaxed_u32(&entry.waiters),
            "taken": load_relaxed_u32(&entry.taken),
            "size": entry_filled(entry) if bodied else 0,
            "pushed": int(entry.pushed),
            "age_ms": (now_us - entry.stored_us) // 1000 if entry.stored_us else 0,
            "ttl_ms": max(0, ttl_ms),
        }
        entry_release(entry)
        return found

    def purge(self, bytes key):
        cdef Slice name = _slice(key)
        cdef bint gone
        with nogil:
            gone = plane_purge(&self.native, name)
        self._changed()
        return gone

    def purge_prefix(self, bytes prefix):
        cdef Slice name = _slice(prefix)
        cdef uint64_t count
        with nogil:
            count = store_purge_prefix(&self.native.store, name)
        self._changed()
        return count

    def open_connections(self):
        cdef Context *ctx
        count = 0
        for i in range(self.native.workers):
            ctx = self.native.contexts[i]
            count += load_relaxed_u32(&ctx.leaving.count) + load_relaxed_u32(&ctx.coming.count)
        return count + sum(worker["connections_now"] for worker in self.worker_counters())

    def worker_counters(self):
        return [_counters(self.native.contexts[i]) for i in range(self.native.workers)]

    def counters(self):
        totals = dict.fromkeys(COUNTER_HELP, 0)
        for worker in self.worker_counters():
            for name, value in worker.items():
                totals[name] += value
        totals.update({
            "store_bytes_now": load_relaxed_u64(&self.native.store.used),
            "store_budget_bytes": store_budget(&self.native.store),
            "store_entries_now": load_relaxed_u64(&self.native.store.entries),
            "store_created": load_relaxed_u64(&self.native.store.created),
            "store_refused": load_relaxed_u64(&self.native.store.refused),
        })
        for index, why in enumerate(LEFT):
            totals[f"store_{why}"] = load_relaxed_u64(&self.native.store.left[index])
        for result, name in PUTS.items():
            totals[f"put_{name}"] = load_relaxed_u64(&self.native.puts[result])
        totals["deposit_left"] = load_relaxed_u64(&self.native.store.deposit.left)
        totals["deposit_kept_now"] = deposit_kept(&self.native.store.deposit)
        return totals

    def histograms(self):
        cdef Histogram *histogram
        found = {}
        for index, name in enumerate(HISTOGRAM_HELP):
            counts, total = [0] * BUCKETS, 0
            for worker in range(self.native.workers):
                histogram = &self.native.contexts[worker].stats.h[index]
                counts = [n + load_relaxed_u64(&histogram.counts[b]) for b, n in enumerate(counts)]
                total += load_relaxed_u64(&histogram.sum_us)
            found[name] = (counts, total)
        return found

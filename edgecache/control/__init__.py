"""L3: everything that is not a hit. One asyncio thread on uvloop; no viewer's byte waits for it
except on a miss."""

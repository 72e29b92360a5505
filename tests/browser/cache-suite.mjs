// The public suite for HTTP caches against the cache at BASE: what passed, by kind, as one JSON line.
//
// usage: node cache-suite.mjs BASE. Tests only for browsers are left out.

import fetch from "node-fetch";
import { getResults, runTests } from "http-cache-tests/client/runner.mjs";
import suites from "http-cache-tests/tests/index.mjs";

await runTests(suites, fetch, false, process.argv[2]);
const results = getResults();
const found = {};
for (const test of suites.flatMap((suite) => suite.tests)) {
  if (test.browser_only) continue;
  const kind = test.kind ?? "required";
  found[kind] ??= { passed: 0, total: 0, failed: {} };
  found[kind].total += 1;
  if (results[test.id] === true) found[kind].passed += 1;
  else found[kind].failed[test.id] = String(results[test.id]);
}
console.log(JSON.stringify(found));

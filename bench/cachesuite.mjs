// http-tests/cache-tests against the cache at BASE, by the checkout at SUITE: one JSON line that has
// for each cache (the one at BASE as "edgecache", those whose results the suite keeps by their
// names) what passed of each kind, and for the one at BASE which tests did not.
//
// usage: node cachesuite.mjs SUITE BASE. Tests only for browsers are left out.

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [suite, base] = process.argv.slice(2);
const from = (file) => import(pathToFileURL(path.join(suite, file)).href);
const { getResults, runTests } = await from("test-engine/client/runner.mjs");
const { default: groups } = await from("tests/index.mjs");

function judged(results) {
  const found = {};
  for (const test of groups.flatMap((group) => group.tests)) {
    if (test.browser_only) continue;
    const kind = test.kind ?? "required";
    found[kind] ??= { passed: 0, total: 0, failed: [] };
    found[kind].total += 1;
    if (results[test.id] === true) found[kind].passed += 1;
    else found[kind].failed.push(test.id);
  }
  return found;
}

await runTests(groups, false, base);
const caches = { edgecache: judged(getResults()) };
for (const file of fs.readdirSync(path.join(suite, "results"))) {
  if (!file.endsWith(".json")) continue;
  const text = fs.readFileSync(path.join(suite, "results", file), "utf8");
  caches[path.basename(file, ".json")] = judged(JSON.parse(text));
}
console.log(JSON.stringify(caches));

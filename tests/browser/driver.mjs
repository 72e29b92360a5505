// One headless Chromium, told what to do by lines of JSON on stdin; answers one line each.
//
// usage: node driver.mjs PROFILE_DIR [FLAG...]. {"op": name, ...arguments} -> {"ok": value} | {"error": text}.
// Ends, and the browser with it, when stdin does.

import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--disable-features=Translate,MediaRouter,OptimizationHints",
  "--autoplay-policy=no-user-gesture-required",
];

const context = await chromium.launchPersistentContext(process.argv[2], {
  executablePath: process.env.EDGECACHE_CHROMIUM || "/usr/bin/chromium",
  headless: true,
  args: [...FLAGS, ...process.argv.slice(3)],
  viewport: { width: 1280, height: 900 },
});
const page = context.pages()[0] ?? (await context.newPage());
const seen = { console: [], answers: [], failed: [] };
page.on("pageerror", (error) => seen.console.push(`uncaught ${error.message}`));
page.on("console", (line) => {
  if (line.type() === "error") seen.console.push(line.text());
});
page.on("requestfailed", (request) => {
  seen.failed.push([request.url(), request.failure()?.errorText ?? ""]);
});
page.on("response", (answer) => {
  const pop = answer.headers()["cache-status"]?.split(";")[0] ?? "";
  seen.answers.push([answer.url(), answer.status(), pop]);
});

const deeds = {
  open: ({ url }) => page.goto(url, { waitUntil: "load" }).then(() => null),
  // In every page from now on, before its scripts.
  before: ({ script }) => page.addInitScript(script).then(() => null),
  // A page of the test's own under the POP's address, from files of ours.
  serve: ({ url, path, type }) => {
    return page.route(url, (route) => route.fulfill({ path, contentType: type }));
  },
  size: ({ width, height }) => page.setViewportSize({ width, height }),
  evaluate: ({ expression }) => page.evaluate(expression),
  // Not waitForFunction: it evaluates a string in the page, which the page's own policy forbids.
  until: async ({ expression, timeout_ms }) => {
    for (const end = Date.now() + timeout_ms; Date.now() < end; await sleep(50)) {
      const value = await page.evaluate(expression);
      if (value) return value;
    }
    throw new Error(`not within ${timeout_ms} ms: ${expression}`);
  },
  hover: ({ selector }) => page.hover(selector, { timeout: 5000 }).then(() => null),
  click: ({ selector }) => page.click(selector, { timeout: 5000 }),
  fill: ({ selector, value }) => page.fill(selector, value, { timeout: 5000 }),
  press: ({ key }) => page.keyboard.press(key),
  select: ({ selector, value }) => page.selectOption(selector, value, { timeout: 5000 }),
  shot: ({ path, whole }) => page.screenshot({ path, fullPage: whole }).then(() => null),
  seen: () => seen,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await deeds[op](given)) ?? null };
  } catch (error) {
    answer = { error: `${op}: ${error.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await context.close();

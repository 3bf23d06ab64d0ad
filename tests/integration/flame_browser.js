// Opens a flame graph in headless Chromium and uses it as a person would.
// Usage: flame_browser.js FILE SCREENSHOT. Prints one JSON object of what it saw.
'use strict';
const { chromium } = require('playwright-core');

(async () => {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'
    ],
  });
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
  const seen = { errors: [], requests: [] };
  page.on('pageerror', (e) => seen.errors.push(String(e)));
  page.on('console', (m) => { if (m.type() === 'error') seen.errors.push(m.text()); });
  page.on('request', (r) => { if (!r.url().startsWith('file:')) seen.requests.push(r.url()); });
  const url = 'file://' + process.argv[2];
  await page.goto(url);
  const shown = () => page.evaluate(() => {
    const frames = Array.from(document.querySelectorAll('.f'));
    return frames.filter((g) => g.style.display !== 'none').length;
  });
  const text = (id) => page.evaluate((i) => document.getElementById(i).textContent, id);
  // Not page.url(): the event that tells it of a change may come after the key press has returned.
  const zoomed_in_address = () =>
      page.waitForFunction(() => location.hash.startsWith('#zoom='), null, { timeout: 5000 })
          .then(() => true, () => false);
  seen.frames = await shown();
  seen.names = await page.evaluate(() => {
    const titles = Array.from(document.querySelectorAll('.f title')).map((t) => t.textContent);
    return titles.slice(0, 100000).join('\n').length;
  });
  const target = page.locator('.f', { has: page.locator('text') }).nth(3);
  await target.locator('rect').click({ force: true });
  seen.zoomed = await shown();
  seen.fragment = await zoomed_in_address();
  const width = await page.evaluate(
      () => Number(document.querySelector('svg[data-total]').getAttribute('width')));
  const target_width = await target.locator('rect').evaluate((r) => r.getAttribute('width'));
  seen.full_width = Math.abs(Number(target_width) - width) < 2;
  await page.keyboard.press('ArrowUp');
  seen.above_the_clicked = await text('details');
  await page.reload();
  seen.zoomed_after_reload = await shown();
  await page.keyboard.press('Escape');
  seen.reset = await shown();
  await page.keyboard.press('/');
  await page.keyboard.type('fibonacci');
  seen.matched = await text('matched');
  seen.hits = await page.evaluate(() => document.querySelectorAll('.f.hit').length);
  await page.keyboard.press('Escape');
  seen.hits_after_escape = await page.evaluate(() => document.querySelectorAll('.f.hit').length);
  await page.fill('#search', '/(/');
  seen.invalid = await text('matched');
  await page.fill('#search', '');
  await page.evaluate(() => document.querySelector('.f').focus());
  await page.keyboard.press('ArrowDown');
  seen.details = await text('details');
  await page.keyboard.press('Enter');
  seen.zoomed_by_key = await zoomed_in_address();
  await page.keyboard.press('Escape');
  for (const w of [400, 4000]) {
    await page.setViewportSize({ width: w, height: 900 });
    const width = () => Number(document.querySelector('svg[data-total]').getAttribute('width'));
    // The page hears of the new size a moment later.
    const has_width = (want) => {
      const graph = document.querySelector('svg[data-total]');
      return Math.abs(Number(graph.getAttribute('width')) - want) < 40;
    };
    await page.waitForFunction(has_width, w, { timeout: 5000 }).catch(() => {});
    seen['width_' + w] = await page.evaluate(width);
  }
  seen.planted = await page.evaluate(() => typeof window.planted);
  await page.setViewportSize({ width: 1200, height: 900 });
  if (process.argv[3]) await page.screenshot({ path: process.argv[3] });
  await browser.close();
  process.stdout.write(JSON.stringify(seen) + '\n');
})().catch((e) => {
  process.stderr.write(String(e.stack || e) + '\n');
  process.exit(1);
});

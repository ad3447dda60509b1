// The console page in a real Chromium against the real hub: what a person sees when they publish,
// when the hub is killed, when the network goes, and on a phone.
//
//   node conformance/browser/run.mjs --gush target/debug/gush [--update-screenshots]

import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DEADLINE_MS, Hub, Report, mint, option, until } from '../lib/hub.mjs';
import { Cable } from '../lib/cable.mjs';
import { launch } from '../lib/chromium.mjs';

const ROOT = resolve(fileURLToPath(import.meta.url), '../../..');
const SHOTS = process.argv.includes('--update-screenshots')
  ? join(ROOT, 'docs/start') : join(ROOT, 'target/browser');
const OPTIONS = ['--dev', '--retry', '500ms', '--drain-window', '1s'];
const ROWS_MAX = 500; // as in crates/hub/console/list.js
// What Chromium writes when a request fails because we cut it. Anything else is an error of ours.
const EXPECTED = /^Failed to load resource: (net::ERR_|the server .* a status of (401|503) )/;

const T = 'https://example.com';
const TEMPLATE = `${T}/{+path}`;
const BEFORE = [
  { topic: `${T}/books/2`, data: '{"title":"Emma","status":"available","copies":3}' },
  { topic: `${T}/chat/7`, type: 'chat',
    data: '{"from":"Ada","text":"Is the reading room open on Sunday?"}' },
  { topic: `${T}/prices/ACME`, type: 'price', data: '{"symbol":"ACME","bid":101.25,"ask":101.31}' },
];
const MEANWHILE = [
  { topic: `${T}/prices/ACME`, type: 'price', data: '{"symbol":"ACME","bid":101.3,"ask":101.36}' },
  { topic: `${T}/prices/ACME`, type: 'price', data: '{"symbol":"ACME","bid":101.45,"ask":101.5}' },
  { topic: `${T}/notes`, data: 'Plain text stays as it is,\nalso in two lines.' },
  { topic: `${T}/chat/7`, type: 'chat', private: 'on',
    data: '{"from":"Grace","text":"Until six, ring twice."}' },
  { topic: `${T}/orders/1042`, data: JSON.stringify({
    order: 1042,
    customer: { name: 'Grace Hopper', city: 'Arlington' },
    items: [{ sku: 'B-17', count: 2 }, { sku: 'C-03', count: 1 }],
    paid: true,
  }) },
];

const report = new Report();
const hub = new Hub(resolve(option('gush', join(ROOT, 'target/debug/gush'))));
const complaints = [];
const sent = []; // ids in the order of their answers
const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };

/** A tab of its own browser context, so that one can be offline without the other. */
const openTab = async (name, { address, colorScheme, topics = TEMPLATE } = {}) => {
  const context = await browser.newContext({
    viewport: DESKTOP, colorScheme: colorScheme ?? 'light',
  });
  context.setDefaultTimeout(DEADLINE_MS);
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(`${name}: ${error}`));
  page.on('console', (message) => {
    const bad = ['error', 'warning'].includes(message.type()) && !EXPECTED.test(message.text());
    if (bad) complaints.push(`${name}: ${message.text()}`);
  });
  // A person's settings from before: what to subscribe to, and the types of event to show.
  await page.addInitScript((matchers) => {
    sessionStorage.setItem('topics', matchers);
    sessionStorage.setItem('types', 'price, chat');
  }, topics);
  await page.goto(address ?? hub.page);
  return { name, page, context };
};

const inState = (tab, state) => tab.page.waitForSelector(`#state[data-state=${state}]`);
const text = (tab, selector) => tab.page.locator(selector).first().textContent();

/** Ids in the list, oldest first. */
const shown = (tab) => tab.page.$$eval('#events .event', (rows) => rows.map((row) => row.dataset.id)
  .reverse());

const bothShow = async (...tabs) => {
  for (const tab of tabs) {
    let have = [];
    await until(`${tab.name} shows ${sent.length} events`, async () => {
      have = await shown(tab);
      return have.length >= sent.length;
    }).catch((error) => { throw new Error(`${error.message}, it shows ${have.length}`); });
    if (JSON.stringify(have) !== JSON.stringify(sent)) {
      throw new Error(`${tab.name}: not once and in order\nsent  ${sent.join(' ')}\n`
        + `shown ${have.join(' ')}`);
    }
  }
};

const publishAll = async (updates) => {
  for (const update of updates) sent.push(await hub.publish(update));
};

const publishInPage = async (tab, data) => {
  await tab.page.fill('#pub-data', data);
  await tab.page.click('#pub-send');
  await tab.page.waitForSelector('#pub-answer.good');
  const id = await until('the new event is in the list', async () => {
    const ids = await shown(tab);
    return ids.length > sent.length ? ids.at(-1) : '';
  });
  sent.push(id);
};

const expectLine = async (tab, kind, pattern, count = 1) => {
  const lines = tab.page.locator(`#events .notice.${kind}`);
  await until(`${tab.name} has ${count} ${kind} line(s) like ${pattern}`, async () => {
    const all = await lines.allTextContents();
    return all.length >= count && pattern.test(all[0]);
  }).catch(async (error) => {
    throw new Error(`${error.message}, it has: ${(await lines.allTextContents()).join(' | ')}`);
  });
};

const noSidewaysScroll = async (tab, width) => {
  await tab.page.setViewportSize({ width, height: 800 });
  const [content, view] = await tab.page.evaluate(() => [
    document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  if (content > view) throw new Error(`${content} px of content in ${view} px`);
};

let browser;
const cable = new Cable(); // between the right tab and the hub
let left;
let right;
const steps = [];
const step = (name, body) => steps.push({ name, body });

step('the page opens at the address the hub prints, and connects', async () => {
  left = await openTab('left tab');
  const address = new URL(hub.page);
  address.port = await cable.lay(address.port);
  right = await openTab('right tab', { address: address.href, colorScheme: 'dark' });
  await inState(left, 'open');
  await inState(right, 'open');
  await left.page.waitForSelector('#empty:has-text("Nothing yet.")');
  if ((await left.page.evaluate(() => location.href)).includes('token')) {
    throw new Error('the token is still in the address bar');
  }
});

step('published in one tab, both tabs receive it', async () => {
  await publishInPage(left, '{"title":"Dune","status":"available"}');
  await bothShow(left, right);
  await publishAll(BEFORE);
  await bothShow(left, right);
  await left.page.waitForSelector(`.event .topic:has-text("${T}/books/1")`);
  await left.page.waitForSelector('#empty', { state: 'hidden' });
});

step('hub killed and restarted: what came meanwhile arrives once, in order', async () => {
  await hub.stop('SIGKILL');
  for (const tab of [left, right]) {
    await tab.page.waitForSelector('#state[data-state=cut], #state[data-state=waiting]');
    await expectLine(tab, 'lost', /^Connection lost \d\d:\d\d:\d\d after /);
  }
  await hub.start(...OPTIONS);
  await publishAll(MEANWHILE);
  await bothShow(left, right);
  for (const tab of [left, right]) {
    await inState(tab, 'open');
    await expectLine(tab, 'resumed', /resumed \d\d:\d\d:\d\d after .*, \d+ events? caught up$/);
  }
  const reconnects = await text(left, '#count-reconnects');
  if (reconnects !== '1') throw new Error(`the page counts ${reconnects} reconnects`);
});

step('the cable of one tab is pulled and plugged in: it catches up', async () => {
  cable.pull();
  await right.context.setOffline(true);
  await right.page.waitForSelector('#state-detail:has-text("offline")');
  await publishAll(MEANWHILE);
  await bothShow(left);
  cable.plug();
  await right.context.setOffline(false);
  await bothShow(left, right);
  await expectLine(right, 'resumed', /, 5 events caught up$/, 2);
});

step('a proxy answers 503 for a while: the page says so, waits and comes back', async () => {
  cable.refuse('no hub behind this proxy');
  await inState(right, 'waiting');
  const why = await text(right, '#state-detail');
  if (!/^in \d+ s: 503: no hub behind this proxy$/.test(why)) throw new Error(`it says: ${why}`);
  await publishAll(BEFORE);
  cable.plug();
  await bothShow(left, right);
  await expectLine(right, 'resumed', /, 3 events caught up$/, 3);
});

step('hub stopped with a drain and restarted: the same', async () => {
  const status = await hub.stop('SIGTERM');
  if (status !== 0) throw new Error(`the hub ended with ${status}`);
  await hub.start(...OPTIONS);
  await publishAll(BEFORE);
  await publishInPage(left, '{"title":"Dune","status":"borrowed","due":"2026-12-06"}');
  await bothShow(left, right);
  await inState(right, 'open');
});

step('screenshots', async () => {
  mkdirSync(SHOTS, { recursive: true });
  // Some live events above the replayed ones, so that the picture shows both. The page takes what
  // follows a reconnect without a pause for replayed.
  await until('the list was quiet for a while', () => left.page.$eval('#events time',
    (time) => Date.now() - Date.parse(time.dateTime) > 2000));
  await publishInPage(left, '{"title":"Dune","status":"returned"}');
  await publishInPage(left, '{"title":"Dune","status":"available"}');
  const newest = left.page.locator('#events .event').first();
  if (await newest.evaluate((row) => row.matches('.caught'))) {
    throw new Error('a live event is marked as replayed');
  }
  await bothShow(left, right);
  await left.page.screenshot({ path: join(SHOTS, 'console.png'), animations: 'disabled' });
  await right.page.setViewportSize(PHONE);
  await right.page.screenshot({ path: join(SHOTS, 'console-phone.png'), animations: 'disabled' });
});

step('no sideways scrolling from 360 to 1280 px', async () => {
  for (const width of [360, 390, 768, 1024, 1280]) await noSidewaysScroll(right, width);
});

step('an event longer than the window does not widen the page', async () => {
  sent.push(await hub.publish({ topic: `${T}/${'long/'.repeat(60)}`, data: 'x'.repeat(30_000) }));
  await bothShow(left, right);
  await noSidewaysScroll(right, 360);
});

step('pause holds new rows back, continue shows them', async () => {
  await left.page.click('#pause');
  const before = (await shown(left)).length;
  sent.push(await hub.publish(BEFORE[0]));
  await left.page.waitForSelector('#held:has-text("1 new")');
  if ((await shown(left)).length !== before) throw new Error('a row came while paused');
  await left.page.click('#pause');
  await bothShow(left);
});

step(`a burst leaves the last ${ROWS_MAX} rows`, async () => {
  const total = sent.length + ROWS_MAX + 50;
  while (sent.length < total) {
    sent.push(...await Promise.all(Array.from({ length: 10 }, () => hub.publish(BEFORE[0]))));
  }
  const count = sent.length.toLocaleString('en');
  let counted;
  await until(`the page counts ${count} events`, async () => {
    counted = await text(left, '#count-events');
    return counted === count;
  }).catch((error) => { throw new Error(`${error.message}, it counts ${counted}`); });
  const rows = left.page.locator('#events li');
  await until('the rows are bounded', async () => await rows.count() === ROWS_MAX);
  await left.page.click('#clear');
  if ((await shown(left)).length !== 0) throw new Error('clear left rows');
});

step('an unknown id to start after gives a gap line', async () => {
  await left.page.click('#sub-more summary');
  await left.page.fill('#sub-after', 'urn:nobody:knows');
  await left.page.click('#sub-apply');
  await expectLine(left, 'gap', /the hub does not know that id/);
});

step('earliest replays what is stored', async () => {
  await left.page.click('#clear');
  await left.page.fill('#sub-after', 'earliest');
  await left.page.fill('#sub-topics', `${T}/orders/{id}`);
  await left.page.click('#sub-apply');
  await until('both orders show', async () => (await shown(left)).length === 2);
});

step('reading with fetch shows every type, and resumes as well', async () => {
  await left.page.fill('#sub-after', '');
  await left.page.fill('#sub-topics', TEMPLATE);
  await left.page.locator('#sub-every').setChecked(true, { force: true });
  await left.page.click('#sub-apply');
  await inState(left, 'open');
  await left.page.click('#clear');
  sent.length = 0;
  await publishAll([{ topic: `${T}/a`, type: 'a type nobody named', data: 'one\r\ntwo\rthree' }]);
  await bothShow(left);
  const data = await text(left, '#events .event .data');
  if (data !== 'one\ntwo\nthree') throw new Error(`the data is ${JSON.stringify(data)}`);
  await hub.stop('SIGKILL');
  await left.page.waitForSelector('#state[data-state=cut]');
  await hub.start(...OPTIONS);
  await publishAll(MEANWHILE);
  await bothShow(left);
  await expectLine(left, 'resumed', /, \d events? caught up$/);
});

step('a matcher for everything also shows who subscribes', async () => {
  const watcher = await openTab('watching tab', { topics: '*' });
  await inState(watcher, 'open');
  const guest = await openTab('guest tab', { topics: `${T}/guest` });
  await inState(guest, 'open');
  await watcher.page.waitForSelector(`.presence:has-text("Subscribed ${T}/guest")`);
  await guest.context.close();
  await watcher.page.waitForSelector(`.presence:has-text("Unsubscribed ${T}/guest")`);
  await watcher.context.close();
});

step('a token runs out: the page says so, and goes on from there with a new one', async () => {
  const token = mint({ publish: ['*'], subscribe: ['*'] }, hub.devKey, 8);
  const tab = await openTab('tab with a short token', { address: `${hub.admin}/#token=${token}` });
  await inState(tab, 'open');
  const [first, ...rest] = BEFORE;
  const before = await hub.publish(first);
  await inState(tab, 'refused');
  const why = await text(tab, '#state-detail');
  if (!/^401: .*expired/.test(why)) throw new Error(`it says: ${why}`);
  await tab.page.waitForSelector('#expires:has-text("expired ")');
  const after = [];
  for (const update of rest) after.push(await hub.publish(update));
  await tab.page.fill('#token', hub.token);
  await tab.page.click('#sub-apply');
  const all = [before, ...after].join();
  await until('all are there, once', async () => (await shown(tab)).join() === all);
  await tab.context.close();
});

step('a refused token: the page says why and stops', async () => {
  const token = mint({ publish: ['*'], subscribe: ['*'] }, 'a key that the hub does not have');
  const tab = await openTab('tab with a wrong token', { address: `${hub.admin}/#token=${token}` });
  await inState(tab, 'refused');
  const why = await text(tab, '#state-detail');
  if (!/^401: ./.test(why)) throw new Error(`it says: ${why}`);
  await tab.page.click('#pub-send');
  await tab.page.waitForSelector('#pub-answer.bad:has-text("401: ")');
  await tab.context.close();
});

const main = async () => {
  await hub.start(...OPTIONS);
  if (!hub.page) throw new Error('the hub printed no address with #token=');
  browser = await launch();
  try {
    for (const { name, body } of steps) {
      // Each step stands on those before it.
      if (!await report.run(name, body)) break;
    }
  } finally {
    await browser.close();
    cable.remove();
  }
  report.check('no errors in the console but those of cut connections', complaints);
};

await report.whole(main, hub, 4);

'use strict';
// `driver.js serve` starts a browser, prints its address, and ends it when stdin ends. `driver.js ADDRESS`
// drives pages in it: reads a JSON request from each line of stdin and writes a JSON outcome to each line of
// stdout. It notes what no page of the emulator may do: errors, dialogs, and requests to other addresses.

const { execFileSync } = require('child_process');
const http = require('http');
const readline = require('readline');
const { chromium } = require('playwright-core');

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Names for pages that are not on this machine in the eyes of the browser.
  '--host-resolver-rules=MAP *.test 127.0.0.1',
];
const PATIENCE = 60_000;

let browser;
let context;
let page;
let offences;
let requests;

const ACTIONS = {
  /// Opens a page in a fresh profile.
  async open({ url, width = 1280, height = 860, dark = false, script = true, user, clock }) {
    await context?.close();
    context = await browser.newContext({
      viewport: { width, height },
      colorScheme: dark ? 'dark' : 'light',
      javaScriptEnabled: script,
      httpCredentials: user ?? undefined,
      reducedMotion: 'reduce',
      timezoneId: 'UTC',
      locale: 'en-GB',
    });
    context.setDefaultTimeout(PATIENCE);
    page = await context.newPage();
    if (clock) await page.clock.install();
    offences = [];
    requests = 0;
    const { origin } = new URL(url);
    const isOwn = (address) => address.startsWith(`${origin}/`) || address.startsWith('data:');
    page.on('console', (message) => {
      if (message.type() === 'error') offences.push(message.text());
    });
    page.on('pageerror', (error) => offences.push(error.message));
    page.on('dialog', (dialog) => {
      offences.push(`dialog ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on('request', (request) => {
      requests += 1;
      if (!isOwn(request.url())) offences.push(`request to ${request.url()}`);
    });
    try {
      return { status: (await page.goto(url)).status() };
    } catch (error) {
      // Without the right credentials the browser shows a prompt, and no page.
      if (error.message.includes('ERR_INVALID_AUTH_CREDENTIALS')) return { status: 401 };
      throw error;
    }
  },

  async click({ role, name, within = 'body' }) {
    await page.locator(within).getByRole(role, { name, exact: true }).click();
  },

  /// Goes to a section by its link.
  async goto({ section }) {
    await page.locator(`nav a[href="#${section}"]`).click();
  },

  /// Goes to the section behind the current one with the keyboard, if there is one.
  async next() {
    await page.locator('nav a[aria-current]').focus();
    await page.keyboard.press('Tab');
    if ((await page.locator('nav a:focus').count()) > 0) await page.keyboard.press('Enter');
  },

  /// Opens the row of a list that has this text.
  async unfold({ list, text }) {
    await page.locator(`${list} summary`, { hasText: text }).first().click();
  },

  async fill({ label, text }) {
    await page.getByLabel(label, { exact: true }).fill(text);
  },

  async choose({ label, option }) {
    await page.getByLabel(label, { exact: true }).selectOption({ label: option });
  },

  async check({ label }) {
    await page.getByLabel(label, { exact: true }).check();
  },

  /// Waits until a visible part of the page has this text.
  async see({ within, text }) {
    await page.locator(within).filter({ hasText: text, visible: true }).first().waitFor();
  },

  /// Waits until no visible part of the page has this text.
  async miss({ within, text }) {
    await page.locator(within).filter({ hasText: text, visible: true }).first().waitFor({ state: 'hidden' });
  },

  async text({ within }) {
    return page.locator(within).first().innerText();
  },

  /// The content of the file behind a link.
  async download({ name }) {
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('link', { name }).click(),
    ]);
    const chunks = [];
    for await (const chunk of await download.createReadStream()) chunks.push(chunk);
    return { file: download.suggestedFilename(), text: Buffer.concat(chunks).toString() };
  },

  /// How many elements there are.
  async count({ selector }) {
    return page.locator(selector).count();
  },

  /// What a script returns in the page.
  async evaluate({ code }) {
    return page.evaluate(code);
  },

  async press({ key }) {
    await page.keyboard.press(key);
  },

  /// Pastes into a field, and returns its text.
  async paste({ label }) {
    await page.getByLabel(label, { exact: true }).focus();
    await page.keyboard.press('ControlOrMeta+V');
    return page.getByLabel(label, { exact: true }).inputValue();
  },

  /// How many requests the page has sent since it was opened.
  async requests() {
    return requests;
  },

  /// Answers requests whose path ends so in place of the port, this often or always.
  async answer({ path, status, json, times }) {
    const ends = (url) => url.pathname.endsWith(path);
    await page.route(ends, (route) => route.fulfill({ status, json }), { times });
  },

  /// Leaves requests to a path without an answer, waits for one, and lets so many seconds pass.
  async stall({ path, seconds }) {
    let arrived;
    const arrival = new Promise((resolve) => (arrived = resolve));
    await page.route((url) => url.pathname === path, arrived);
    await page.clock.fastForward(5_000);
    await arrival;
    await page.clock.fastForward(seconds * 1_000);
  },

  /// How many pixels the page is wider than the window.
  async overflow() {
    return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  },

  async screenshot({ file }) {
    await page.screenshot({ path: file });
  },

  /// What happened that must not, since the page was opened.
  async offences() {
    return offences;
  },

  /// Lets a page of another origin try what pages can try, and returns what it could read.
  async attack({ url, user }) {
    const server = http.createServer((request, response) => {
      response.setHeader('content-type', 'text/html');
      response.end('<!doctype html><title>elsewhere</title><body>');
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    context = await browser.newContext({ httpCredentials: user ?? undefined });
    const elsewhere = await context.newPage();
    // From then on the browser knows the credentials.
    if (user) await elsewhere.goto(url);
    await elsewhere.goto(`http://127.0.0.1:${server.address().port}/`);
    const learned = await elsewhere.evaluate(async (target) => {
      const fault = '{"effect":"stall","times":9}';
      const learned = [];
      const tried = async (what, run) => {
        const text = await run().catch(() => null);
        if (text) learned.push(`${what}: ${text}`);
      };
      const read = async (path, options) => (await fetch(target + path, options)).text();
      await tried('fetch', () => read('/info'));
      await tried('no-cors', () => read('/info', { mode: 'no-cors' }));
      await tried('credentials', () => read('/info', { credentials: 'include' }));
      await tried('simple POST', () => read('/faults', { method: 'POST', body: fault, mode: 'no-cors' }));
      await tried('POST', () =>
        read('/faults', { method: 'POST', body: fault, headers: { 'content-type': 'application/json' } }),
      );
      await tried('PUT', () => read('/clock', { method: 'PUT', body: '{"advanceSeconds":86400}' }));
      await tried('DELETE', () => read('/faults', { method: 'DELETE' }));
      await tried(
        'script',
        () =>
          new Promise((resolve, reject) => {
            const script = document.createElement('script');
            script.onload = () => resolve('loaded');
            script.onerror = reject;
            script.src = `${target}/info`;
            document.body.append(script);
          }),
      );
      await tried(
        'frame',
        () =>
          new Promise((resolve) => {
            const frame = document.createElement('iframe');
            frame.onload = () => {
              try {
                resolve(frame.contentDocument?.body.textContent);
              } catch {
                resolve(null);
              }
            };
            frame.src = `${target}/`;
            document.body.append(frame);
          }),
      );
      return learned;
    }, url);
    const frames = await Promise.all(
      elsewhere
        .frames()
        .slice(1)
        .map((frame) =>
          frame
            .locator('body')
            .innerText()
            .catch(() => ''),
        ),
    );
    server.close();
    return { learned, frames };
  },
};

async function outcome({ act, ...given }) {
  try {
    return { result: (await ACTIONS[act](given)) ?? null };
  } catch (error) {
    const seen = await page
      ?.locator('body')
      .innerText()
      .catch(() => '');
    return { error: `${error.message}\n${seen ?? ''}` };
  }
}

const lines = () => readline.createInterface({ input: process.stdin });
const write = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

async function serve() {
  // Playwright takes a path only.
  const path = execFileSync('sh', ['-c', 'command -v "$0"', process.env.DPS_BROWSER]).toString().trim();
  const server = await chromium.launchServer({ executablePath: path, args: FLAGS, host: '127.0.0.1' });
  write({ address: server.wsEndpoint() });
  for await (const _ of lines());
  setTimeout(() => server.kill(), PATIENCE).unref();
  await server.close();
}

async function drive(address) {
  browser = await chromium.connect(address);
  write({ browser: browser.version() });
  for await (const line of lines()) write(await outcome(JSON.parse(line)));
  process.exit();
}

const [address] = process.argv.slice(2);
if (address === 'serve') serve();
else drive(address);

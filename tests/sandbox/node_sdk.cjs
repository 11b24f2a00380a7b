// The official Node SDK, driven by lines of JSON: a call in, what came of it out.
const fs = require('fs');
const path = require('path');
const readline = require('readline');
const lark = require(path.join(process.env.LARK_NODE_SDK, '@larksuiteoapi', 'node-sdk'));

const silent = Object.fromEntries(['error', 'warn', 'info', 'debug', 'trace'].map((level) => [level, () => {}]));
const clients = new Map();

function clientOf({ url, app_id: appId, app_secret: appSecret, call, token }) {
  // Its own token manager would ask for a token before every other call, even before the call for a token.
  const disableTokenCache = Boolean(token) || call === 'token';
  const key = JSON.stringify([url, appId, appSecret, disableTokenCache]);
  if (!clients.has(key)) {
    clients.set(key, new lark.Client({ appId, appSecret, domain: url, logger: silent, disableTokenCache }));
  }
  return clients.get(key);
}

async function make(call) {
  const client = clientOf(call);
  const options = call.token ? lark.withTenantToken(call.token) : undefined;
  const image = call.bare ? fs.readFileSync(call.path) : call.path && fs.createReadStream(call.path);
  const data = { image_type: call.image_type, image };
  switch (call.call) {
    case 'token':
      return client.auth.tenantAccessToken.internal({ data: call.asked });
    case 'im/v1':
      return { code: 0, data: await client.im.image.create({ data }, options) };
    case 'image/v4':
      return client.request(
        { method: 'POST', url: '/open-apis/image/v4/put/', data, headers: { 'Content-Type': 'multipart/form-data' } },
        options,
      );
    case 'download': {
      const got = await client.im.image.get({ path: { image_key: call.key } }, options);
      await got.writeFile(call.path_out);
      return { code: 0 };
    }
    default:
      throw new Error(`no such call: ${call.call}`);
  }
}

async function answer(line) {
  try {
    return { status: 200, body: await make(JSON.parse(line)) };
  } catch (error) {
    if (!error.response) return { status: 0, body: { code: -1, msg: String(error.stack) } };
    let { data } = error.response;
    if (data && typeof data.pipe === 'function') {
      const chunks = [];
      for await (const chunk of data) chunks.push(chunk);
      data = JSON.parse(Buffer.concat(chunks).toString());
    }
    return { status: error.response.status, body: data, log_id: error.response.headers['x-tt-logid'] };
  }
}

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  process.stdout.write(`${JSON.stringify(await answer(line))}\n`);
});

// A strict OpenID provider on loopback: authorization code with PKCE, rotating refresh tokens that may be used once,
// short-lived access tokens. `oidc.mjs serve` prints its port; `oidc.mjs agree URL` does what a person does in a browser.
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

async function serve() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const port = server.address().port;
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [
      {
        client_id: 'pipewright',
        client_secret: 's3cret/with:signs',
        application_type: 'native',
        redirect_uris: ['http://127.0.0.1/callback'],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
      },
      {
        client_id: 'machine',
        client_secret: 's3cret',
        redirect_uris: [],
        grant_types: ['client_credentials'],
        response_types: [],
      },
    ],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
    },
    scopes: ['openid', 'offline_access', 'api'],
    ttl: { AccessToken: 2, RefreshToken: 3600, ClientCredentials: 2, Interaction: 600, Session: 600, Grant: 3600 },
    rotateRefreshToken: true,
    issueRefreshToken: async (_, client) => client.grantTypeAllowed('refresh_token'),
    pkce: { required: () => true },
    findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    cookies: { keys: ['only for tests'] },
  });
  provider.use(async (ctx, next) => {
    if (ctx.path.startsWith('/interaction/')) {
      const { prompt, params, session } = await provider.interactionDetails(ctx.req, ctx.res);
      if (prompt.name === 'login') {
        await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: 'anna' } });
      } else {
        const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
        grant.addOIDCScope(params.scope);
        const grantId = await grant.save();
        await provider.interactionFinished(ctx.req, ctx.res, { consent: { grantId } }, { mergeWithLastSubmission: true });
      }
      ctx.respond = false;
      return;
    }
    if (ctx.path === '/api') {
      // The resource: it takes what is valid this very second.
      const token = (ctx.get('authorization') || '').replace(/^Bearer /, '');
      const found = (await provider.AccessToken.find(token)) || (await provider.ClientCredentials.find(token));
      ctx.status = found && found.isValid ? 200 : 401;
      ctx.body = found && found.isValid ? { id: found.accountId || found.clientId } : { error: 'invalid_token' };
      return;
    }
    await next();
  });
  provider.on('server_error', (_, error) => console.error(error));
  provider.on('grant.error', (_, error) => console.error(String(error.message), String(error.error_detail || '')));
  provider.on('grant.revoked', () => console.error('revoked: a refresh token came twice'));
  server.on('request', provider.callback());
  console.log(port);
}

async function agree(url) {
  const jar = new Map();
  for (let step = 0; step < 10; step += 1) {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
    const answer = await fetch(url, { redirect: 'manual', headers: cookie ? { cookie } : {} });
    for (const line of answer.headers.getSetCookie()) {
      const [name, ...rest] = line.split(';')[0].split('=');
      jar.set(name, rest.join('='));
    }
    const next = answer.headers.get('location');
    if (!next) {
      console.log(answer.status, (await answer.text()).replaceAll('\n', ' '));
      return;
    }
    url = new URL(next, url).href;
  }
  throw new Error('too many redirects');
}

const [, , what, url] = process.argv;
await (what === 'agree' ? agree(url) : serve());

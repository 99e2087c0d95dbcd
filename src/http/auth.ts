/**
 * Who is asking. With `none` a header says so; with `jwt` a token that was signed by a key and an algorithm of the
 * configuration. A token that was verified is remembered for a while, so that its holder's next call is synchronous.
 */
import { hash } from 'node:crypto';
import type { FetchImplementation, JWKSCacheInput, JWTPayload, JWTVerifyGetKey, JWTVerifyOptions } from 'jose';
import { isUserId, type UserId } from '../coupon.ts';
import { messageOf, Unavailable } from '../errors.ts';
import type { Host } from '../host.ts';
import type { Log } from '../metrics.ts';
import type { Asked } from './asked.ts';
import { jwksFreshMsMax, jwksKeptMsMax, jwksMsMax, jwksMsMin, tokenMsMax, tokenSkewS, tokensMax } from './limits.ts';
import { malformed, type Problem, problem, unavailable } from './problem.ts';

export type AuthSettings =
  | { kind: 'none' }
  | {
      kind: 'jwt';
      /** HS256. */
      secret?: string | undefined;
      /** Any asymmetric algorithm that the key's own entry allows. */
      jwksUrl?: string | undefined;
      issuer?: string | undefined;
      audience?: string | undefined;
    };

type Checked<T> = T | Problem | Promise<T | Problem>;

export interface Auth {
  user(asked: Asked): Checked<UserId>;
  /** Undefined: allowed. */
  admin(asked: Asked): Checked<undefined>;
}

export function createAuth(settings: AuthSettings, host: Host, say: Log): Auth {
  if (settings.kind === 'none') return { user: userOfHeader, admin: () => undefined };
  const tokens = new Tokens(verifier(settings, host, say), host);
  return {
    user: asked => then(tokens.check(asked.authorization), userOf),
    admin: asked => then(tokens.check(asked.authorization), adminOf),
  };
}

function then<A, B>(value: A | Promise<A>, next: (a: A) => B): B | Promise<B> {
  return value instanceof Promise ? value.then(next) : next(value);
}

function userOfHeader({ userId }: Asked): UserId | Problem {
  if (userId === undefined) return problem('UNAUTHENTICATED', 'the header X-User-Id is missing');
  return isUserId(userId) ? userId : malformed('the header X-User-Id must be 1 to 64 of A-Z a-z 0-9 . _ : @ -');
}

/** What we keep of a token. */
interface Claims {
  userId: UserId | undefined;
  admin: boolean;
}

const isProblem = (it: Claims | Problem): it is Problem => 'code' in it;

const userOf = (claims: Claims | Problem): UserId | Problem =>
  isProblem(claims) ? claims : (claims.userId ?? problem('UNAUTHENTICATED', "the token's sub is not a user id"));

function adminOf(claims: Claims | Problem): Problem | undefined {
  if (isProblem(claims)) return claims;
  return claims.admin ? undefined : problem('FORBIDDEN', "this call needs a token with the claim role: 'admin'");
}

type Verify = (token: string) => Promise<JWTPayload>;

/** Loaded where tokens are asked for. */
const loaded = () => import('jose');
type Jose = Awaited<ReturnType<typeof loaded>>;

function verifier(settings: Extract<AuthSettings, { kind: 'jwt' }>, host: Host, say: Log): Verify {
  const { secret, jwksUrl, issuer, audience } = settings;
  const options: JWTVerifyOptions = {
    clockTolerance: tokenSkewS,
    ...(issuer === undefined ? {} : { issuer }),
    ...(audience === undefined ? {} : { audience }),
  };
  if (jwksUrl !== undefined) {
    const known = loaded().then(jose => {
      const keys = keySet(jwksUrl, jose, host, say);
      const rules = { ...options, algorithms: asymmetric };
      return (token: string) => ofKeySet(token, keys, rules, jose);
    });
    return async token => (await known)(token);
  }
  if (secret === undefined || secret === '') throw new Error('jwt needs a secret or the URL of a key set');
  const key = new TextEncoder().encode(secret);
  const known = loaded();
  return async token => (await (await known).jwtVerify(token, key, { ...options, algorithms: ['HS256'] })).payload;
}

/** A token that names no key is one of whichever key fits it. */
async function ofKeySet(
  token: string,
  keys: JWTVerifyGetKey,
  rules: JWTVerifyOptions,
  jose: Jose,
): Promise<JWTPayload> {
  try {
    return (await jose.jwtVerify(token, keys, rules)).payload;
  } catch (error) {
    if (!(error instanceof jose.errors.JWKSMultipleMatchingKeys)) throw error;
    for await (const key of error) {
      try {
        return (await jose.jwtVerify(token, key, rules)).payload;
      } catch (fault) {
        const { JWTClaimValidationFailed, JWTExpired } = jose.errors;
        // Its signature fits. Another fault, as of a key that is too weak, is that key's.
        if (fault instanceof JWTExpired || fault instanceof JWTClaimValidationFailed) throw fault;
      }
    }
    throw error;
  }
}

/**
 * The keys at an address, by jose. It asks for them when it has none, when it does not know a token's key, and here when
 * they are old. All of it goes through one fetch, which bounds how often that is, whatever comes of it.
 */
function keySet(url: string, jose: Jose, host: Host, say: Log): JWTVerifyGetKey {
  const { createRemoteJWKSet, customFetch, jwksCache } = jose;
  /** What jose last got, and when. */
  const got: JWKSCacheInput = {};
  let askedAt = Number.NEGATIVE_INFINITY;
  const mayAsk = () => host.elapsed() - askedAt >= jwksMsMin;
  const seldom: FetchImplementation = async (...request) => {
    if (!mayAsk()) throw new Unavailable('the key set was asked for a moment ago');
    askedAt = host.elapsed();
    const answer = await fetch(...request).catch(messageOf);
    const why = typeof answer === 'string' ? answer : !answer.ok && `status ${answer.status}`;
    if (why) say('warn', `the key set (DIBS_JWKS_URL) does not come, the keys that are known serve on: ${why}`);
    if (typeof answer === 'string') throw new Unavailable(answer);
    return answer;
  };
  const keys = createRemoteJWKSet(new URL(url), {
    timeoutDuration: jwksMsMax,
    cooldownDuration: jwksMsMin,
    cacheMaxAge: jwksKeptMsMax,
    [jwksCache]: got,
    [customFetch]: seldom,
  });
  return (header, token) => {
    const isOld = got.uat !== undefined && host.now() - got.uat > jwksFreshMsMax;
    // Nobody waits for it, and one that does not come is asked for again.
    if (isOld && mayAsk()) keys.reload().catch(() => {});
    return keys(header, token);
  };
}

/** With a key set only these: its keys are public, so a symmetric algorithm would let anyone sign. */
const asymmetric = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
];

class Tokens {
  /** By hash, oldest use first. */
  private readonly known = new Map<string, { claims: Claims; until: number }>();
  private readonly verify: Verify;
  private readonly host: Host;

  constructor(verify: Verify, host: Host) {
    this.verify = verify;
    this.host = host;
  }

  check(authorization: string | undefined): Claims | Problem | Promise<Claims | Problem> {
    if (authorization === undefined) return problem('UNAUTHENTICATED', 'the header Authorization is missing');
    const token = /^Bearer +([\w.~+/-]+=*) *$/i.exec(authorization)?.[1];
    if (token === undefined) return problem('UNAUTHENTICATED', 'the header Authorization must be Bearer and a token');
    const name = hash('sha256', token, 'base64');
    const known = this.known.get(name);
    if (!known) return this.learn(name, token);
    this.known.delete(name);
    if (known.until <= this.host.now()) return this.learn(name, token);
    this.known.set(name, known);
    return known.claims;
  }

  private async learn(name: string, token: string): Promise<Claims | Problem> {
    let payload: JWTPayload;
    try {
      payload = await this.verify(token);
    } catch (error) {
      return faultOf(error, (await loaded()).errors);
    }
    const { sub, exp, role } = payload;
    const claims: Claims = { userId: isUserId(sub) ? sub : undefined, admin: role === 'admin' };
    const end = exp === undefined ? Number.POSITIVE_INFINITY : (exp + tokenSkewS) * 1000;
    this.known.set(name, { claims, until: Math.min(end, this.host.now() + tokenMsMax) });
    if (this.known.size > tokensMax) this.known.delete(this.known.keys().next().value as string);
    return claims;
  }
}

/** What is told of a bad token: enough to mend it, nothing of what it holds. */
function faultOf(error: unknown, errors: Jose['errors']): Problem {
  if (error instanceof errors.JWTExpired) return problem('UNAUTHENTICATED', 'the token has expired');
  if (error instanceof errors.JWTClaimValidationFailed) {
    return problem('UNAUTHENTICATED', `the token's ${error.claim} is not accepted here`);
  }
  if (error instanceof errors.JOSEAlgNotAllowed) {
    return problem('UNAUTHENTICATED', 'the algorithm of the token is not accepted here');
  }
  // The key set did not come: that is no fault of the token.
  const away = error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid;
  const bad = error instanceof errors.JOSEError && !away && error.code !== 'ERR_JOSE_GENERIC';
  return bad ? problem('UNAUTHENTICATED', 'the token is not valid') : unavailable;
}

/** Who may call a route behind fastify: the same Auth as the button's. */
import type { FastifyRequest } from 'fastify';
import type { UserId } from '../coupon.ts';
import { askedOf, headFault } from './asked.ts';
import type { Auth } from './auth.ts';
import { type Problem, ProblemError } from './problem.ts';

export interface Access {
  /** A hook: only an operator passes. */
  admin(request: FastifyRequest): Promise<void>;
  user(request: FastifyRequest): Promise<UserId>;
}

export const createAccess = (auth: Auth): Access => ({
  async admin(request) {
    const asked = askedOf(request.raw.rawHeaders);
    refuseIf(headFault(asked));
    refuseIf(await auth.admin(asked));
  },
  async user(request) {
    const asked = askedOf(request.raw.rawHeaders);
    refuseIf(headFault(asked));
    const who = await auth.user(asked);
    if (typeof who !== 'string') throw new ProblemError(who);
    return who;
  },
});

function refuseIf(fault: Problem | undefined): void {
  if (fault) throw new ProblemError(fault);
}

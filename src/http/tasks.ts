/** A task as it is shown. Its id is the capability: no token is asked for. */
import type { FastifyInstance } from 'fastify';
import { userCouponIdOf } from '../coupon.ts';
import type { Status } from '../outcome.ts';
import { aheadOf, type StatusReader } from '../status.ts';
import type { Sealer, Task } from '../task.ts';
import { type Problem, ProblemError, problem, unavailable } from './problem.ts';
import { pathOf, problemsOf, TaskSchema, text } from './schemas.ts';

export const unknownTask: Problem = problem('UNKNOWN_TASK', 'this task id was not given out here');

export interface TaskJson {
  taskId: string;
  couponId: string;
  state: Status['state'];
  ahead?: number;
  outcome?: 'issued' | 'duplicated' | 'inactive' | 'refused';
  reason?: string;
  slot?: number;
  userCouponId?: string;
  issuedAt?: string;
}

export function taskJson(taskId: string, couponId: string, status: Status, ahead: number | undefined): TaskJson {
  const { state } = status;
  if (state === 'accepted' && ahead !== undefined) return { taskId, couponId, state, ahead };
  if (state !== 'done') return { taskId, couponId, state };
  const { outcome } = status;
  switch (outcome) {
    case 'issued':
    case 'duplicated': {
      const { slot, at } = status;
      const userCouponId = userCouponIdOf(couponId, slot);
      return { taskId, couponId, state, outcome, slot, userCouponId, issuedAt: new Date(at).toISOString() };
    }
    case 'inactive':
    case 'refused':
      return { taskId, couponId, state, outcome, reason: status.reason };
  }
}

export interface TaskTools {
  sealer: Sealer;
  status: StatusReader;
  partitions: number;
}

/**
 * A problem for whatever was not given out here: forged, altered, of another log or secret. A genuine task of a
 * partition that this process does not know yet (they were added while it runs) is only not available here.
 */
export function openTask(taskId: string, { sealer, partitions }: Omit<TaskTools, 'status'>): Task | Problem {
  const task = sealer.open(taskId);
  if (!task || task.partition < 0 || task.offset < 0) return unknownTask;
  return task.partition < partitions ? task : unavailable;
}

export function taskRoutes(app: FastifyInstance, tools: TaskTools): void {
  const params = pathOf({ taskId: text('As the 202 gave it.') });
  app.get(
    '/tasks/:taskId',
    {
      schema: {
        tags: ['user'],
        summary: 'Where a request is, and how it ended',
        params,
        response: { 200: TaskSchema, ...problemsOf('UNKNOWN_TASK', 'UNAVAILABLE') },
      },
    },
    async (request, reply) => {
      const { taskId } = request.params as { taskId: string };
      const task = openTask(taskId, tools);
      if ('code' in task) throw new ProblemError(task);
      const { status, next } = await tools.status.read(task);
      reply.header('cache-control', 'no-store');
      return taskJson(taskId, task.couponId, status, aheadOf(task.offset, next));
    },
  );
}

import type { CheckName } from '../checks/facts.ts';

/** A check that no mutant can fail first, and why. */
interface NoProof {
  why: string;
}

/** For each check the mutant that shows that it can fail: it is the first to fail there. */
export const proofs: Record<CheckName, string | NoProof> = {
  no_oversell: {
    why: 'a row beyond the stock is that of somebody who did not win, which rows_true sees first, and the tables, which do not let it in, would have to be wrong as well',
  },
  one_a_user: 'a winner may have two rows',
  rows_true: 'a row has another time than its win',
  rows_complete: 'a commit by one who is behind is taken when it goes on',
  checkpoint_forward: 'a commit does not ask where the checkpoint is',
  checkpoint_true: 'the checkpoint forgets the strays of a mark',
  letters_kept: 'an unreadable change is dropped',
  changes_true: 'a redrive puts all back in the partition of the first',
  changes_in_order: 'what is malformed is told at the end of its batch',
  marks_true: 'a mark forgets what earlier batches touched',
  marks_whole: 'the mark stands before its changes',
  told_acknowledged: 'told before the append is acknowledged',
  ledger_true: 'a holder may win again',
  rebuild_true: "a rebuild forgets the log's clock",
  let_in: 'one press in three is turned away for nothing',
  told_soon: 'no hint is heard',
  first_come: 'several appends are out where the log does not keep their order',
  accepted_durable: 'all of a batch get the first place',
  not_accepted_true: 'whatever an append threw, it was not accepted',
  door_sold_out_true: 'the phase of the coupon as it was once is refused by',
  door_closed_true: "the door closes by the host's clock",
  door_not_open_true: "the log's clock is taken to stand still",
  door_unknown_true: 'who looks a coupon up joins the read that is out',
  door_duplicate_true: 'a duplicate is told another slot',
  key_never_lost: 'a retry with the key that won is a duplicate',
  ahead_true: 'ahead leaves out the one in front',
  stream_forward: 'the outcome is told, and told again',
  outcome_true: 'a later win answers an earlier loss',
  outcome_stays: 'a board that is missing has nothing committed',
  issued_has_row: 'issued before the commit',
  reserved_true: 'reserved with another slot',
  set_aside_true: 'what is not committed is set aside',
  right_person: 'a task id forgets its partition',
  operator_true: 'a coupon is created whatever the log says',
  stats_true: "a stage's place is noted before its work",
  board_true: 'the board is written before the commit',
  verify_clean: 'totals are not stored',
  no_alarm: 'the checkpoint keeps an older change hash',
  no_crash: 'a reading that failed is caught by nobody',
  answered: 'a redrive leaves one behind',
  comes_to_rest: 'a lost ledger is noticed only by the next request',
};

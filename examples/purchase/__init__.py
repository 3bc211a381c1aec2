"""A purchase, from an order on a queue to a parcel: charge, reserve each line, book, ship.

    python -m examples.purchase       # the whole story, everything it needs is started by it

It shows what a business cares about:

- **The customer pays once.** `charge` calls a payment gateway with the step's id as idempotency
  key. The card ``tok-lost-answer`` makes the gateway take the money and lose the answer: the step
  is tried again, and the gateway's ledger has one charge and two requests.
- **A refusal is a branch, not an error.** The card ``tok-declined`` is declined, so the steps
  inside of ``with when(receipt.paid)`` are skipped and the customer is told.
- **The books are exact.** `book` is transactional: its row in ``shop.bookings`` and its outcome
  are one commit in the database of the flows: one row per order, whatever dies when.
- **A mistake in the input is repaired by an operator**, who reads why, edits it and retries. What
  was done is not done again.

`flows` is the module that workers run, `outside` what is simulated of the world, `schema.sql` the
shop's own tables, `order.json` the message that a shop publishes to RabbitMQ. The second half of
docs/tutorial.md goes through it by hand.
"""

-- The shop's own tables. They lie beside the schema `orchestrator`, in the same database.
CREATE SCHEMA IF NOT EXISTS shop;

CREATE TABLE IF NOT EXISTS shop.bookings (
    order_id   text PRIMARY KEY,
    amount     integer NOT NULL CHECK (amount > 0),  -- cents
    receipt    text NOT NULL,
    booked_at  timestamptz NOT NULL DEFAULT now()
);

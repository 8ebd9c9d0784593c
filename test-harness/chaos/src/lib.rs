//! Nothing but the suite in `tests/it`: engines and pool-managerd are killed under load. Links no part of the product.

Feature: Placement can be told and is explained
  A pin is a pin; a preference is a preference.

  Background:
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each
    And the engines pace their tokens

  # ORCH-3902 ORCH-3903
  Scenario: A pinned task waits for its pool while another is free
    Given "gpu1" is busy with a long task
    When I submit an interactive task of 4 tokens pinned to "gpu1"
    Then the task is "queued" with 0 tasks ahead
    And "gpu0" has all slots free
    When the long task is cancelled
    Then the task runs on "gpu1"

  # ORCH-3902
  Scenario: A preferred pool is taken when it is free
    When I submit an interactive task of 4 tokens preferring "gpu1"
    Then the task runs on "gpu1"

  # ORCH-3903 ORCH-3254
  Scenario: A preferred pool that is busy does not hold the task up
    Given "gpu1" is busy with a long task
    When I submit an interactive task of 4 tokens preferring "gpu1"
    Then the task runs on "gpu0"
    And "gpu1" has no slot free

  # ORCH-3903
  Scenario: A preference without fallback waits
    Given "gpu1" is busy with a long task
    When I submit an interactive task of 4 tokens preferring "gpu1" without fallback
    Then the task is "queued" with 0 tasks ahead
    And "gpu0" has all slots free
    When the long task is cancelled
    Then the task runs on "gpu1"

  # ORCH-3902
  Scenario: An avoided pool is taken when no other has a slot
    Given "gpu0" is busy with a long task
    When I submit an interactive task of 4 tokens avoiding "gpu1"
    Then the task runs on "gpu1"

  # ORCH-3902
  Scenario: An avoided pool is left out while another has a slot
    When I submit an interactive task of 4 tokens avoiding "gpu0"
    Then the task runs on "gpu1"

  # ORCH-3903
  Scenario: An avoided pool without fallback is never taken
    Given "gpu0" is busy with a long task
    When I submit an interactive task of 4 tokens avoiding "gpu1" without fallback
    Then the task is "queued" with 0 tasks ahead
    And "gpu1" has all slots free
    When the long task is cancelled
    Then the task runs on "gpu0"

  # ORCH-3902
  Scenario: A required device mask leaves exactly the pool that has it
    When I submit an interactive task of 4 tokens for exactly the GPU of "gpu1"
    Then the task runs on "gpu1"
    When I submit an interactive task of 4 tokens for exactly the GPUs of "gpu0" and "gpu1"
    Then the answer is 503 with code "POOL_UNAVAILABLE" and reason "no_feasible_pool"

  # ORCH-3906
  Scenario: A pin to a pool that does not exist
    When I submit an interactive task of 4 tokens pinned to "gpu9"
    Then the answer is 503 with code "POOL_UNAVAILABLE" and reason "pinned_pool_infeasible"

  # ORCH-3253
  Scenario: Interactive goes before batch
    Given "gpu0" and "gpu1" are busy with long tasks
    When I submit a batch task of 4 tokens
    And I submit an interactive task of 4 tokens
    Then the interactive task has 0 tasks ahead and the batch task 1

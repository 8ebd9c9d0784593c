Feature: The queue is bounded, fair and honest
  What is taken runs; what is not is told when to come again; nobody waits for ever.

  # ORCH-3250 ORCH-3106
  Scenario: A full queue refuses with a pause that it has computed
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and queue settings "capacity = 1"
    And the engines pace their tokens
    And "gpu0" and "gpu1" are busy with long tasks
    When I submit an interactive task of 4 tokens
    And I submit an interactive task of 4 tokens
    Then the answer is 429 with code "ADMISSION_REJECT" and policy "reject"
    And its headers tell the same pause as its body

  # REQ-OVERLOAD-HONEST ORCH-3106
  Scenario: Under load everything is taken or refused
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and queue settings "capacity = 3"
    And the engines pace their tokens
    And "gpu0" and "gpu1" are busy with long tasks
    When I submit 40 interactive tasks of 4 tokens at once
    Then 3 of them are taken and 37 are refused with "ADMISSION_REJECT" and a pause
    When the long task is cancelled
    Then all that were taken end with finish reason "length"

  # REQ-QUEUE-PER-POOL
  Scenario: A pile for one pool does not take the places of another
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and queue settings "pool_capacity = 1"
    And the engines pace their tokens
    And "gpu0" and "gpu1" are busy with long tasks
    When I submit an interactive task of 4 tokens pinned to "gpu0"
    And I submit an interactive task of 4 tokens pinned to "gpu0"
    Then the answer is 429 with code "ADMISSION_REJECT" and a message holding "the line of pool gpu0 is full"
    When I submit an interactive task of 4 tokens pinned to "gpu1"
    Then the task is "queued" with 1 task ahead

  # ORCH-3250
  Scenario: A full queue drops the longest waiting batch task
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and queue settings "capacity = 2, policy = 'drop-lru'"
    And the engines pace their tokens
    And "gpu0" and "gpu1" are busy with long tasks
    When I submit a batch task of 4 tokens
    And I submit a batch task of 4 tokens
    And I submit an interactive task of 4 tokens
    Then the first task's stream ends with error "QUEUE_FULL_DROP_LRU"
    And the other tasks are "queued"

  # ORCH-3107
  Scenario: A deadline that passes while the task waits
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and queue settings "capacity = 10"
    And the engines pace their tokens
    And "gpu0" and "gpu1" are busy with long tasks
    When I submit a task of 4 tokens with a deadline of 400 ms
    Then its stream ends with finish reason "deadline" after 0 tokens

  # ORCH-3253
  Scenario: A batch task that has waited long enough takes turns
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and queue settings "batch_max_wait_ms = 100"
    And the engines pace their tokens
    And "gpu0" and "gpu1" are busy with long tasks
    When I submit a batch task of 4 tokens
    And it has waited for 100 ms
    And I submit an interactive task of 4 tokens
    Then the interactive task has 1 task ahead and the batch task 0

  # ORCH-3254
  Scenario: A waiting task starts where a slot frees, wherever it wanted to go
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and queue settings "capacity = 10"
    And the engines pace their tokens
    And the engine of "gpu1" runs out of GPU memory after 200 tokens
    And "gpu0" and "gpu1" are busy with long tasks
    When I submit an interactive task of 4 tokens preferring "gpu0"
    Then the task is "queued" with 0 tasks ahead
    And the task runs on "gpu1"

  # REQ-ETA-LIVE
  Scenario: A waiting client is told when it is its turn
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and queue settings "capacity = 10"
    And the engines pace their tokens
    When I submit an interactive task of 30 tokens pinned to "gpu0"
    And I read its stream to the end
    And "gpu0" is made busy with a task that expects 1000 tokens
    And I submit an interactive task of 4 tokens pinned to "gpu0"
    Then the receipt predicts a start
    And its stream tells a start that comes closer

  # REQ-PLACEMENT-EXPLAIN REQ-DECISION-REPLAY
  Scenario: A decision is explained, and asking changes nothing
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and queue settings "capacity = 10"
    When I ask where an interactive task of 4 tokens pinned to "gpu1" would go
    Then the explanation says "placed" on "gpu1" and no task exists
    When I submit an interactive task of 4 tokens pinned to "gpu1"
    Then the task runs on "gpu1"
    And its decision says "placed" on "gpu1" with the input that it was made on

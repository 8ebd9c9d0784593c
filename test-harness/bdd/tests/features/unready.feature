Feature: A pool that cannot serve says why, and does no harm
  Nothing is sent to it; its engine comes back by itself or is given up with its last words; others serve on.

  # ORCH-3421 ORCH-3423
  Scenario: A model that cannot be loaded keeps its pool unready
    Given a GPU box with pools "broken" and "sound", where the engine of "broken" ends at every start with "error loading model: no such tensor"
    Then "broken" is given up because of "BAD_MODEL" with the words "no such tensor"
    And "broken" was started 3 times
    When I submit an interactive task of 2 tokens pinned to "broken"
    Then the answer is 503 with code "POOL_UNREADY" and a message holding "broken"
    When I submit an interactive task of 2 tokens pinned to "sound"
    Then its stream ends with finish reason "length" after 2 tokens

  # ORCH-3423
  Scenario: A driver error is answered by pauses and restarts until the budget is spent
    Given a GPU box with pools "shaky" and "sound", where the engine of "shaky" ends at every start with "CUDA error: unspecified launch failure"
    Then "shaky" pauses before its next start because of "GPU_ERROR"
    And "shaky" is given up because of "RESTART_BUDGET_EXHAUSTED" with the words "unspecified launch failure"
    And "shaky" was started 4 times
    When I submit an interactive task of 2 tokens pinned to "shaky"
    Then the answer is 503 with code "POOL_UNREADY" and a message holding "shaky"
    When I submit an interactive task of 2 tokens pinned to "sound"
    Then its stream ends with finish reason "length" after 2 tokens

  # ORCH-3430
  Scenario: An engine that computes on another pool's GPU serves nobody
    Given a GPU box with pools "left" and "right", where the engine of "left" computes on the GPU of "right"
    Then "left" pauses before its next start because of "ENGINE_NOT_ON_GPU"
    When I submit an interactive task of 2 tokens pinned to "right"
    Then its stream ends with finish reason "length" after 2 tokens
    And "left" is given up because of "RESTART_BUDGET_EXHAUSTED" with the words "llama_server"
    When I submit an interactive task of 2 tokens pinned to "left"
    Then the answer is 503 with code "POOL_UNREADY" and a message holding "left"
    And no GPU holds the engine of another pool

Feature: Sessions have turns and budgets, callers a rate
  What a task may cost is reserved before it waits; what it did cost is what its receipt says.

  # REQ-BUDGET-RESERVE REQ-BUDGET-HEADERS
  Scenario: A task that its session cannot pay for is refused before the queue
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and session settings "token_budget = 100"
    When I submit a task of 200 tokens in session "chat"
    Then it is refused with 429 for "budget-tokens" and no time to come back
    And the header "X-Budget-Tokens-Remaining" says "100"
    And the session "chat" does not exist

  # REQ-BUDGET-SETTLE REQ-SESSION-API
  Scenario: A session is charged what the receipt says
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and session settings "token_budget = 500"
    When I submit a task of 20 tokens in session "chat"
    And I read its stream to the end
    Then the session "chat" was charged what the receipt says of 500 tokens

  # REQ-BUDGET-RESERVE
  Scenario: Tasks side by side cannot overdraw
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and session settings "token_budget = 3000"
    And the engines pace their tokens
    When I submit a task of 2900 tokens in session "chat"
    And I submit a task of 200 tokens in session "chat"
    Then it is refused with 429 for "budget-tokens" and a time to come back

  # REQ-BUDGET-RESERVE
  Scenario: A run ends where the session's time ends
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and session settings "time_budget_ms = 500"
    And the engines pace their tokens
    When I submit a task of 20000 tokens in session "chat"
    Then its stream ends with finish reason "deadline"

  # REQ-SESSION-TURNS
  Scenario: A session has its turns and no more
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and session settings "max_turns = 1"
    When I submit a task of 4 tokens in session "chat"
    And I read its stream to the end
    And I submit a task of 4 tokens in session "chat"
    Then the answer is 409 with code "CONFLICT" and reason "session_turns"
    When I end the session "chat"
    And I submit a task of 4 tokens in session "chat"
    Then its stream ends with finish reason "length"

  # REQ-SESSION-AFFINITY REQ-KV-WARMTH
  Scenario: The next turn goes where the last one was, unless it would wait
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each
    And the engines pace their tokens
    When I submit a task of 4 tokens in session "chat" preferring "gpu1"
    Then the task runs on "gpu1"
    And it was dispatched with a cold cache
    And "gpu1" has all slots free
    When I submit a task of 4 tokens in session "chat"
    Then the task runs on "gpu1"
    And it was dispatched with a warm cache
    Given "gpu1" is busy with a long task
    When I submit a task of 4 tokens in session "chat"
    Then the task runs on "gpu0"
    And it was dispatched with a cold cache

  # REQ-RATE-LIMIT
  Scenario: A caller that submits too fast is told when to come back
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and at most 2 tasks at once and 1 a minute
    When I submit an interactive task of 4 tokens
    And I submit an interactive task of 4 tokens
    And I submit an interactive task of 4 tokens
    Then it is refused with 429 for "rate-limit" and a time to come back

  # ORCH-3107
  Scenario: A deadline that passes in the stream
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each
    And the engines pace their tokens
    When I submit a task of 20000 tokens with a deadline of 400 ms
    Then its stream ends with finish reason "deadline"

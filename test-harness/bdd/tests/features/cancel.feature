Feature: Cancel is a contract
  After the acknowledgement not one token is handed out, the slot is free, and one terminal frame is sent.

  Background:
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each
    And the engines pace their tokens

  # ORCH-3204 ORCH-3274
  Scenario: Cancelling a running task
    When I submit an interactive task of 4000 tokens pinned to "gpu0"
    And I wait for its first token
    And I cancel it
    Then the cancel answers 204
    And its stream ends with finish reason "canceled"
    And no token follows the acknowledgement
    And a viewer who comes after the acknowledgement is given no token
    And the engine of "gpu0" saw the connection close
    And "gpu0" has all slots free
    And cancelling it again answers 204

  # ORCH-3204 ORCH-3274
  Scenario: Cancelling a task whose engine is silent
    Given the engine of "gpu0" falls silent after 1 token
    When I submit an interactive task of 20 tokens pinned to "gpu0"
    And I wait for its first token
    And I cancel it
    Then the cancel answers 204
    And its stream ends with finish reason "canceled"
    And its stream holds 1 token
    And the engine of "gpu0" saw the connection close
    And "gpu0" has all slots free

  # ORCH-3204 ORCH-3274
  Scenario: Cancelling a queued task
    Given "gpu0" is busy with a long task
    When I submit a batch task of 8 tokens pinned to "gpu0"
    And I cancel it
    Then the cancel answers 204
    And its stream ends with finish reason "canceled"
    And its stream holds 0 tokens
    And cancelling it again answers 204

  # ORCH-3205
  Scenario: The client goes away
    When I submit an interactive task of 4000 tokens pinned to "gpu0"
    And I wait for its first token
    And I drop the stream
    Then the task becomes "canceled"
    And the engine of "gpu0" saw the connection close
    And "gpu0" has all slots free

  # ORCH-3204
  Scenario: Cancelling what nobody knows
    Then cancelling an unknown task answers 404

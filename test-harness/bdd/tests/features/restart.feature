Feature: What was accepted survives the orchestrator
  An acknowledged task is never lost: killed and started again, the orchestrator knows it, in its place.

  Background:
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each
    And the engines pace their tokens

  # ORCH-3712 ORCH-3714
  Scenario: Restart in the middle of a stream
    When I submit an interactive task of 60 tokens pinned to "gpu0"
    And I wait for its first token
    And the orchestrator is killed and started again
    Then resuming where it was cut gives 60 tokens in all

  # ORCH-3710 ORCH-3711
  Scenario: Restart with waiting tasks
    Given "gpu0" is busy with a long task
    When I submit a batch task of 2 tokens pinned to "gpu0"
    And I submit an interactive task of 2 tokens pinned to "gpu0"
    And the orchestrator is killed and started again
    Then the task submitted last waits ahead of the one before
    When the long task is cancelled
    Then every submitted task completes

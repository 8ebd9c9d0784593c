Feature: GPU boxes join, fall silent and come back
  A box is told why it is not wanted; one that is not heard of gets no new work and loses none.

  # AUTH-1003 AUTH-1006
  Scenario: A box that calls the orchestrator by a foreign name is told what to do
    Given a GPU box that calls the orchestrator by a name it does not answer to
    Then the log of pool-managerd holds a hint about the allowed names
    And its engine keeps running while the orchestrator refuses it again and again
    And the orchestrator knows no node

  # REQ-RELAY-WAY-BACK
  Scenario: A box that cannot be reached is told so
    Given a GPU box behind its relay that nobody can reach
    Then the log of pool-managerd holds a hint about the firewall
    And its engine keeps running while the orchestrator refuses it again and again
    And the orchestrator knows no node

  # ORCH-3427 REQ-RELAY-REACH REQ-RELAY-STREAM
  Scenario: A box that falls silent finishes what it has
    Given a GPU box behind its relay with pool "far" of 2 slots, whose reports can be lost
    When I submit an interactive task of 400 tokens pinned to "far"
    And I wait for its first token
    And the box's reports are lost
    Then "far" is not ready because of "NODE_STALE"
    When I submit an interactive task of 2 tokens pinned to "far"
    Then the answer is 503 with code "POOL_UNREADY" and a message holding "far"
    And its stream ends with finish reason "length" after 400 tokens
    When the box's reports arrive again
    Then "far" is ready with the same engine

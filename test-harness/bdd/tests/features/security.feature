Feature: Minimal authentication
  Nothing beyond loopback without a token; on loopback only by choice.

  # AUTH-1004 AUTH-1008
  Scenario: Loopback and AUTH_OPTIONAL
    Given an orchestrator with a token and AUTH_OPTIONAL=true
    Then a request without a token answers 200
    And the log names the identity "localhost"

  # AUTH-1001 AUTH-1005 AUTH-1007 AUTH-1008
  Scenario: Loopback without AUTH_OPTIONAL
    Given a GPU box whose daemons share a token
    Then a request without a token answers 401 with numeric code 40101
    And a request with a wrong token answers 401 with numeric code 40102
    And a request with the right token answers 200
    And the log names the token only by its fingerprint

  # AUTH-1002
  Scenario: No bind beyond loopback without a token
    When an orchestrator starts on "0.0.0.0:0" without a token
    Then it refuses to start and says 40301

  # AUTH-1003
  Scenario: A worker registers without a token
    Given an orchestrator with a token and AUTH_OPTIONAL=true
    Then a request without a token answers 200
    But a worker registration without a token answers 401 with numeric code 40101
    And a worker registration with the right token answers 200

  # AUTH-1003 ORCH-3426
  Scenario: A node with the wrong token is told what to do
    Given a GPU box whose pool-managerd has another token than the orchestrator
    Then the log of pool-managerd holds a hint about the token
    And its engine keeps running while the orchestrator refuses it again and again
    And the orchestrator knows no node

  # AUTH-1006
  Scenario Outline: A page on another site cannot drive the daemon
    Given an orchestrator with a token and AUTH_OPTIONAL=true
    Then a request with the header "<name>" "<value>" answers 403

    Examples:
      | name           | value                |
      | Host           | evil.example         |
      | Origin         | https://evil.example |
      | Sec-Fetch-Site | cross-site           |

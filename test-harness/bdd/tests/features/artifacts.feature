Feature: What is worth keeping is kept by the digest of its content
  Clients store plans, summaries and diffs; every task that ends leaves a trace that its stream names.

  # REQ-TRACE-EVERY REQ-TRACE-REDACTION
  Scenario: A finished task leaves a trace that its stream names
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each
    When I submit an interactive task of 8 tokens
    And I read its stream to the end
    Then its end names a trace that holds its text and not its prompt
    And its trace has the outcome "length"

  # REQ-TRACE-EVERY
  Scenario: A cancelled task leaves one too
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each
    And the engines pace their tokens
    When I submit an interactive task of 20000 tokens
    And I wait for its first token
    And I cancel it
    Then its trace has the outcome "canceled"

  # REQ-TRACE-EVERY
  Scenario: A failed task leaves one too
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each
    And the engine of "gpu0" runs out of GPU memory after 3 tokens
    When I submit an interactive task of 20 tokens pinned to "gpu0"
    And I read its stream to the end
    Then its trace has the outcome "error"

  # REQ-TRACE-EVERY REQ-ARTIFACT-ATOMIC
  Scenario: What is kept survives the orchestrator
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each
    When I submit an interactive task of 8 tokens
    And I read its stream to the end
    And I store a "plan" saying "first the tests" with the tag "release-7"
    Then it is stored under the digest of its content
    When the orchestrator is killed and started again
    Then the tag "release-7" finds "first the tests"
    And its end names a trace that holds its text and not its prompt

  # REQ-ARTIFACT-REPEAT REQ-ARTIFACT-API
  Scenario: The same content is the same artifact
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each
    When I store a "plan" saying "first the tests" with the tag "release-7"
    And I store a "plan" saying "first the tests" with the tag "release-8"
    Then it was there already
    And the tag "release-7" finds "first the tests"
    And the tag "release-8" finds "first the tests"
    And asking for it again with its ETag answers 304
    When I store a "diff" saying "first the tests" with the tag "release-7"
    Then the answer is 409 with code "CONFLICT" and a message holding "kind: the same content is already stored as plan"

  # REQ-ARTIFACT-RETENTION
  Scenario: What is too old is removed
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each and artifact settings "max_age_ms = 1000"
    When I store a "summary" saying "all green" with the tag "night"
    Then the tag "night" finds nothing after a while

Feature: A task is admitted, placed and streamed
  One POST, one stream, one terminal frame, whatever happens in between.

  Background:
    Given a GPU box with pools "gpu0" and "gpu1" of 1 slot each

  # ORCH-3101 ORCH-3274 ORCH-3201 ORCH-3202
  Scenario: From POST to end
    When I submit an interactive task of 8 tokens
    Then the receipt says 0 tasks ahead and names a pool
    And its stream is well formed
    And its stream starts with "[scripted engine: no inference]"
    And its stream ends with finish reason "length" after 8 tokens
    And the end event names engine "llamacpp", a seed and the pool that ran it

  # ORCH-3203
  Scenario: A viewer comes back and loses nothing
    When I submit an interactive task of 20 tokens
    And I read its stream to the end
    Then resuming after every frame gives exactly the rest
    And resuming after the last frame answers 204
    And resuming after "garbage" answers 400 naming "Last-Event-ID"
    And resuming after "0.22" answers 400 naming "Last-Event-ID"

  # ORCH-3105
  Scenario: The same request twice is one task
    When I submit the same task twice with one task id
    Then both receipts name the same task
    And submitting another body under that id answers 409 with code "CONFLICT"
    And the engines ran one completion

  # ORCH-3208
  Scenario: The engine dies in the middle of a stream
    Given the engine of "gpu0" runs out of GPU memory after 3 tokens
    When I submit an interactive task of 20 tokens pinned to "gpu0"
    Then its stream is well formed
    And its stream ends with error "WORKER_RESET" whose message holds "CUDA error: out of memory"
    And its stream holds 3 tokens
    And "gpu0" is ready again with a new generation
    And a task pinned to "gpu0" then ends with finish reason "length"

  # ORCH-3102 ORCH-3103 ORCH-3104
  Scenario Outline: What can never run is refused with its reason
    When I submit <request>
    Then the answer is <status> with code "<code>" and a message holding "<words>"

    Examples:
      | request                          | status | code              | words    |
      | a task with the field "colour"   | 400    | INVALID_PARAMS    | colour   |
      | a task with an empty prompt      | 400    | INVALID_PARAMS    | prompt   |
      | a task for the model "nonesuch"  | 404    | NOT_FOUND         | nonesuch |
      | a task that needs 100000 tokens  | 400    | INVALID_PARAMS    | 100000   |
      | a body of 2 MiB                  | 413    | PAYLOAD_TOO_LARGE | 1048576  |

Feature: Chat, embedding and rerank
  A pool says what it serves; a task gets what its workload promises, or a refusal that names the field.

  Background:
    Given a GPU box with pools for text, vectors and scores

  # ORCH-3520 ORCH-3523 ORCH-3274
  Scenario: A chat is answered token by token
    When I submit a chat saying "what shines?" of 6 tokens
    Then its stream is well formed
    And its stream starts with "[scripted engine: no inference]"
    And its stream ends with finish reason "length" after 6 tokens
    And the pool "text" ran it

  # ORCH-3523
  Scenario: What the model thinks is told apart from what it answers
    Given the engine of "text" thinks for 3 tokens
    When I submit a chat saying "what shines?" of 8 tokens
    Then its stream is well formed
    And 3 tokens of its stream are "reasoning" and 5 are text

  # ORCH-3521
  Scenario: Texts become vectors
    When I submit an embedding of "the moon" and "a lamp"
    Then its stream is well formed
    And its stream holds 0 tokens
    And its result holds 2 vectors of equal length
    And the pool "vectors" ran it

  # ORCH-3521
  Scenario: The same texts become the same vectors
    When I submit an embedding of "the moon" and "a lamp"
    And I read its stream to the end
    And I submit an embedding of "the moon" and "a lamp"
    Then both tasks have the same result

  # ORCH-3521
  Scenario: Documents are ranked
    When I submit a ranking of "bread" and "the moon of the river" against "the moon"
    Then its stream is well formed
    And its result ranks 1 before 0
    And the pool "scores" ran it

  # ORCH-3522
  Scenario Outline: What cannot fit is refused before it waits
    When I submit a <workload> with <bytes> bytes of text
    Then the answer is 400 with code "INVALID_PARAMS" and a message holding "<field>: "
    And the answer is 400 with code "INVALID_PARAMS" and a message holding "1024"

    Examples:
      | workload  | bytes | field    |
      | chat      | 1020  | messages |
      | embedding | 1023  | inputs   |
      | rerank    | 1020  | inputs   |

  # ORCH-3520
  Scenario Outline: A field of another workload is refused by name
    When I submit a <workload> with the field "<field>" besides its own
    Then the answer is 400 with code "INVALID_PARAMS" and a message holding "<field>: does not belong to workload <workload>"

    Examples:
      | workload   | field      |
      | completion | messages   |
      | completion | inputs     |
      | completion | query      |
      | chat       | prompt     |
      | chat       | inputs     |
      | chat       | query      |
      | embedding  | prompt     |
      | embedding  | messages   |
      | embedding  | query      |
      | embedding  | max_tokens |
      | rerank     | prompt     |
      | rerank     | messages   |
      | rerank     | max_tokens |

  # ORCH-3520
  Scenario Outline: A field that the workload needs is asked for by name
    When I submit a <workload> without its "<field>"
    Then the answer is 400 with code "INVALID_PARAMS" and a message holding "<field>: is required for workload <workload>"

    Examples:
      | workload   | field    |
      | completion | prompt   |
      | chat       | messages |
      | embedding  | inputs   |
      | rerank     | inputs   |
      | rerank     | query    |

  # ORCH-3526
  Scenario: A pool takes no work that it does not serve
    When I submit an embedding pinned to "text"
    Then the answer is 503 with code "POOL_UNAVAILABLE" and a message holding "embedding"

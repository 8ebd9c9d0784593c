Feature: A pool changes its model, or keeps the one it has
  What runs finishes; the new model serves once it is proven; one that fails changes nothing.

  # REQ-OPERATION-RELOAD
  Scenario: The new model serves, and what ran on the old one finishes
    Given a GPU box with a pool "gpu0" that has the files of "tiny" and "next"
    When I submit an interactive task of 400 tokens pinned to "gpu0"
    And I wait for its first token
    And "gpu0" is reloaded with "next"
    Then the reload of "gpu0" has succeeded
    And "gpu0" serves "next"
    And its stream ends with finish reason "length" after 400 tokens
    When I submit a task of 3 tokens for "next"
    Then its stream ends with finish reason "length" after 3 tokens

  # REQ-OPERATION-RELOAD
  Scenario: A new model that cannot be loaded leaves the old one serving
    Given a GPU box with a pool "gpu0" that has the files of "tiny" and "next"
    And new engines of "gpu0" end with "error loading model: no such tensor"
    When I submit an interactive task of 400 tokens pinned to "gpu0"
    And I wait for its first token
    And "gpu0" is reloaded with "next"
    Then the reload of "gpu0" has failed with the words "no such tensor"
    And "gpu0" serves "tiny"
    And its stream ends with finish reason "length" after 400 tokens
    When I submit an interactive task of 3 tokens pinned to "gpu0"
    Then its stream ends with finish reason "length" after 3 tokens

  # REQ-OPERATION-ROOTS
  Scenario: A file that is not there is refused before anything is touched
    Given a GPU box with a pool "gpu0" that has the files of "tiny" and "next"
    When "gpu0" is reloaded with "absent"
    Then the reload of "gpu0" has failed with the words "model_dirs"
    And "gpu0" serves "tiny"

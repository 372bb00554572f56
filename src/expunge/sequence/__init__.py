"""Sequential unlearning: a ledger of them, each met by an edit on top of the last, and the whole scored as one.

`settings` is the file, `strategy` how an edit holds on to earlier ones, `ledger` the record of what was asked and
done, `states` the model after each request, `before` what a recipe is told of earlier ones, `run` the verb, `gather`
the scores.
"""

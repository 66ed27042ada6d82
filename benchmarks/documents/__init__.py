"""The tables of the documents, made from the committed records: ``make readme``.

::

    benchmarks/records/*.json ─ typed records ─ are they of these weights? ─ Markdown ─▶ documents

One module a group of tables; ``write`` says which table stands where.
"""

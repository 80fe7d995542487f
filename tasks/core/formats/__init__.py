"""File formats of reviews, in and out. One file a format, one entry in `registry.FORMATS`, one contract test for all.

Format and compression (gz, zst, bz2) are told by the content where it is certain, else by the name. Decoding never
holds more than a few rows. A large file is cut into spans, each decoded alone, and what is encoded for them is joined:

    reading.decode(name, stream)                    the rows of a file
    reading.cut(name, stream, part_bytes)           its spans
    reading.decode(name, stream, span)              the rows of one
    reading.decode(name, stream, columns=names)     the same, but only some columns
    writing.encode(name, rows, columns, stream)     a file; header=False for a part that comes behind another
    writing.encode(..., types=types)                the same, with columns of these types where the format has any
    writing.join(name, parts, stream)               the encoded parts as one file
"""

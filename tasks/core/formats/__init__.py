"""File formats for reading and writing reviews: one module per format, one entry in `registry.FORMATS` each.

One contract test covers all formats. Format and compression (gz, zst, bz2) are detected from the content if it is
certain, else from the name. Decoding never holds more than a few rows. A large file is cut into spans; each span is
decoded alone, and the parts encoded for them are joined:

    reading.decode(name, stream)                    the rows of a file
    reading.cut(name, stream, part_bytes)           its spans
    reading.decode(name, stream, span)              the rows of one span
    reading.decode(name, stream, columns=names)     the rows of a file, with some columns only
    writing.encode(name, rows, columns, stream)     a file; header=False for a part that follows another
    writing.encode(..., types=types)                the same, with columns of these types if the format has types
    writing.join(name, parts, stream)               the encoded parts as one file
"""

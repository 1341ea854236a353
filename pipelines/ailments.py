"""What can be wrong with shards, how bad it is, and what to do about it.

An `error` stops training, or has it learn from nothing; a `warning` loses pairs in silence, or
stops some reader; a `note` is only worth knowing.
"""

from dataclasses import dataclass

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True, slots=True)
class Ailment:
    """Something that can be wrong."""

    severity: str
    of: str
    """What is counted: `samples`, `shards`, or `images`, of which only a sample is looked at."""
    what: str
    """A sentence in which {count}, {of}, the others ({rest}) and {caption} are put."""
    advice: str


AILMENTS = {
    "shard_missing": Ailment(
        ERROR,
        "shards",
        "{count} of {of} shards that the pattern names are not there",
        "correct the pattern, or fetch them",
    ),
    "shard_unreadable": Ailment(
        ERROR, "shards", "{count} of {of} shards cannot be opened", "check their permissions"
    ),
    "tar_compressed": Ailment(
        ERROR,
        "shards",
        "{count} of {of} shards are compressed, which only some readers undo",
        "decompress them",
    ),
    "tar_damaged": Ailment(
        ERROR,
        "shards",
        "{count} of {of} shards are damaged or cut short; readers stop there",
        "fetch them again, or write them anew: altmill filter reads what is left",
    ),
    "parquet_unreadable": Ailment(
        ERROR, "shards", "{count} of {of} parquet files cannot be read", "write them anew"
    ),
    "caption_missing": Ailment(
        WARNING,
        "samples",
        "{rest} of {of} samples have {caption}",
        "write it beside the image, or name the member that has captions: --caption",
    ),
    "image_missing": Ailment(
        WARNING,
        "samples",
        "{rest} of {of} samples have an image (jpg, png, jpeg or webp)",
        "open_clip skips the others in silence: write them anew, or count them out",
    ),
    "sample_split": Ailment(
        WARNING,
        "samples",
        "{count} of {of} samples are parts of one whose members are not side by side",
        "readers take each part for a sample: write a sample's members one after another",
    ),
    "name_repeated": Ailment(
        ERROR,
        "samples",
        "{count} of {of} samples have a member that the sample before, of the same key, had",
        "webdataset stops at it: give each sample a key of its own",
    ),
    "key_repeated": Ailment(
        WARNING,
        "samples",
        "{count} of {of} samples have the key of another in their shard",
        "give each sample a key of its own",
    ),
    "key_in_shards": Ailment(
        WARNING,
        "samples",
        "{count} of {of} keys are in several shards",
        "whatever joins by key takes them for one another: number samples across shards",
    ),
    "caption_not_utf8": Ailment(
        ERROR,
        "samples",
        "{count} of {of} samples have a caption that is not UTF-8",
        "webdataset stops at it: altmill filter drops them, as intact.caption_not_utf8",
    ),
    "caption_empty": Ailment(
        WARNING,
        "samples",
        "{count} of {of} samples have an empty caption",
        "they teach nothing: altmill filter drops them, as intact.caption_missing",
    ),
    "caption_long": Ailment(
        NOTE,
        "samples",
        "{count} of {of} samples have a caption of more than 4,096 bytes",
        "most of it is never read: token_count and char_count bound it",
    ),
    "image_empty": Ailment(
        ERROR,
        "samples",
        "{count} of {of} samples have an image of no bytes",
        "webdataset stops at it: altmill filter drops them, as intact.image_missing",
    ),
    "image_undecodable": Ailment(
        ERROR,
        "images",
        "{count} of {of} images that were looked at cannot be decoded",
        "webdataset stops at them, open_clip skips them: altmill filter drops them",
    ),
    "image_too_large": Ailment(
        WARNING,
        "images",
        "{count} of {of} images that were looked at have more pixels than Pillow opens gladly",
        "each may take a worker's memory: altmill filter drops them",
    ),
    "json_broken": Ailment(
        ERROR,
        "images",
        "{count} of {of} samples that were looked at have a json that is none",
        "webdataset stops at it: write it anew",
    ),
    "image_kinds": Ailment(
        WARNING,
        "samples",
        "{count} of {of} images have another extension than most",
        "datasets and to_tuple('jpg', ...) want one: name them all, as 'jpg;png'",
    ),
    "images_several": Ailment(
        WARNING,
        "samples",
        "{count} of {of} samples have several images",
        "readers take one of them, not always the same: keep one",
    ),
    "members_differ": Ailment(
        WARNING,
        "samples",
        "{count} of {of} samples have other members than most, apart from the image",
        "datasets stops at them: write the same for every sample",
    ),
    "key_dotted": Ailment(
        WARNING,
        "samples",
        "{count} of {of} samples have an image whose name has more than one dot",
        "readers cut a key at its first dot, and see no image: replace dots in keys",
    ),
    "key_nested": Ailment(
        NOTE,
        "samples",
        "{count} of {of} samples have a folder in their key",
        "webdataset keeps it in __key__: nothing to do, if joins by key know of it",
    ),
    "file_hidden": Ailment(
        WARNING,
        "files",
        "{count} files have a name that begins with a dot, in a folder",
        "webdataset takes them for samples, and cuts those around them: leave them out, as with "
        "COPYFILE_DISABLE=1 tar on macOS",
    ),
    "file_ignored": Ailment(
        NOTE,
        "files",
        "{count} files are of no sample, as their names have no key or no extension",
        "readers pass them over",
    ),
    "sizes_lacks": Ailment(
        ERROR,
        "shards",
        "{count} of {of} shards are not in the sizes.json beside them",
        "open_clip stops with a KeyError: write it anew, or remove it",
    ),
    "sizes_wrong": Ailment(
        WARNING,
        "shards",
        "{count} of {of} shards have another number of samples than sizes.json says",
        "epochs are too short or too long: write it anew",
    ),
    "sizes_unreadable": Ailment(
        ERROR,
        "shards",
        "{count} of {of} shards have a sizes.json beside them that is none",
        "write it anew, or remove it",
    ),
    "stats_wrong": Ailment(
        WARNING,
        "shards",
        "{count} of {of} shards have another number of samples than their _stats.json says",
        "a download that was cut short leaves this: fetch them again",
    ),
    "parquet_differs": Ailment(
        WARNING,
        "shards",
        "{count} of {of} shards do not have the keys that the parquet beside them lists",
        "they are of different downloads: fetch them again",
    ),
    "shard_empty": Ailment(
        WARNING,
        "shards",
        "{count} of {of} shards have no whole pair of an image and a caption",
        "a worker that has only such shards waits for ever: leave them out",
    ),
}
"""By name; listed in this order."""

FATAL_WHEN_ALL = ("caption_missing", "image_missing", "shard_empty", "sample_split")
"""What is an error where it is true of every sample or shard."""

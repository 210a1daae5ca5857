"""Siemens raw data (twix) of both generations, written from the publicly documented structures, for tests.

VB: a text header, then for every channel of every line a header of 128 bytes and its samples. VD and VE: a directory of
measurements, each with a text header, and for every line a header of 192 bytes, then for every channel one of 32 and
its samples.
"""

import struct

import numpy as np

COUNTERS = ["Lin", "Ave", "Sli", "Par", "Eco", "Phs", "Rep", "Set", "Seg", "Ida", "Idb", "Idc", "Idd", "Ide"]
FLAGS = {
    "ACQEND": 0,
    "RTFEEDBACK": 1,
    "HPFEEDBACK": 2,
    "ONLINE": 3,
    "SYNCDATA": 5,
    "RAWDATACORRECTION": 10,
    "REFPHASESTABSCAN": 14,
    "PHASESTABSCAN": 15,
    "PHASCOR": 21,
    "PATREFSCAN": 22,
    "PATREFANDIMASCAN": 23,
    "REFLECT": 24,
    "NOISEADJSCAN": 25,
    "RETRO_DUMMYSCAN": 51,
    "FIDNAV": 60,
}
START = [
    ("length", "<u4"),
    ("measurement", "<i4"),
    ("scan_counter", "<u4"),
    ("time", "<u4"),
    ("pmu_time", "<u4"),
]
TABLE = [("system", "<u2"), ("table_delay", "<u2"), ("table", "<i4", 3), ("reserved", "<i4")]
MIDDLE = [
    ("flags", "<u8"),
    ("samples", "<u2"),
    ("channels", "<u2"),
    ("counters", "<u2", len(COUNTERS)),
    ("cutoff", "<u2", 2),
    ("centre_column", "<u2"),
    ("coil_select", "<u2"),
    ("off_centre", "<f4"),
    ("since_rf", "<u4"),
    ("centre_line", "<u2"),
    ("centre_partition", "<u2"),
]
PLACE = [("position", "<f4", 3), ("quaternion", "<f4", 4)]
VB = np.dtype(
    [*START, *MIDDLE, ("ice", "<u2", 4), ("free", "<u2", 4), *PLACE, ("channel", "<u2"), ("table_position", "<u2")]
)
VD = np.dtype([*START, *TABLE, *MIDDLE, *PLACE, ("ice", "<u2", 24), ("rest", "<u2", 6), ("checksum", "<u4")])
CHANNEL = np.dtype([("length", "<u4"), ("words", "<u4", 5), ("channel", "<u2"), ("unused", "<u2"), ("checksum", "<u4")])
assert (VB.itemsize, VD.itemsize, CHANNEL.itemsize) == (128, 192, 32)


def line(
    data, flags=(), centre=None, cutoff=(0, 0), position=(0, 0, 0), quaternion=(1, 0, 0, 0), channels=None, **counters
):
    """One readout of data (coil, sample); ``centre`` is that of k-space as (column, line, partition)."""
    data = np.ascontiguousarray(data, "<c8")
    head = np.zeros((), VD)
    head["flags"] = sum(1 << FLAGS[name] for name in ("ONLINE", *flags))
    head["channels"], head["samples"] = data.shape
    head["counters"] = [counters.pop(name, 0) % 2**16 for name in COUNTERS]
    assert not counters
    head["cutoff"], head["position"], head["quaternion"] = cutoff, position, quaternion
    column, row, partition = centre or (data.shape[1] // 2, 0, 0)
    head["centre_column"], head["centre_line"], head["centre_partition"] = column, row, partition
    return head, data, range(len(data)) if channels is None else channels


def sync(n_bytes=160):
    """A block between lines that holds no samples, as those of physiological signals."""
    head = np.zeros((), VD)
    head["flags"] = 1 << FLAGS["SYNCDATA"]
    return head, bytes(n_bytes), ()


def protocol(
    matrix=(1, 10, 12),
    fov=(5, 100, 120),
    name="gre",
    dwell_ns=5000,
    coils=(),
    oversampling=2,
    version="syngo MR E11",
    more=None,
    xprotocol=None,
):
    """Text buffers of a measurement with matrix and field of view (z, y, x) in mm, names (coil, element) of the coils.

    ``more`` and ``xprotocol`` add lines to the two texts of its parameters: by their paths, and by their names alone.
    """
    nz, ny, nx = matrix
    fz, fy, fx = fov
    values = {
        "tProtocolName": f'"{name}"',
        "sRXSPEC.alDwellTime.__attribute__.size": 128,
        "sRXSPEC.alDwellTime[0]": dwell_ns,
        "sSliceArray.lSize": 1,
        "sSliceArray.asSlice[0].dThickness": float(fz),
        "sSliceArray.asSlice[0].dPhaseFOV": float(fy),
        "sSliceArray.asSlice[0].dReadoutFOV": float(fx),
        "sSliceArray.asSlice[0].sNormal.dTra": 1.0,
        "sKSpace.lBaseResolution": nx,
        "sKSpace.lPhaseEncodingLines": ny,
        "sKSpace.lPartitions": nz,
        "sKSpace.ucDimension": "0x4" if nz > 1 else "0x2",
        "sKSpace.ucTrajectory": "0x1",
        "sFastImaging.lEPIFactor": 1,
        "sPat.ucRefScanMode": "0x1",
    }
    vb = " B1" in version
    for i, (coil, element, number) in enumerate(coils):
        entry = f"asCoilSelectMeas[0].asList[{i}]" if vb else f"sCoilSelectMeas.aRxCoilSelectData[0].asList[{i}]"
        values[f"{entry}.sCoilElementID.tCoilID"] = f'"{coil}"'
        values[f"{entry}.sCoilElementID.tElement"] = f'"{element}"'
        values[f"{entry}.lElementSelected"] = 1
        values[f"{entry}.{'lRxChannelConnected' if vb else 'lADCChannelConnected'}"] = number
    values |= more or {}
    tagged = {
        "flReadoutOSFactor": float(oversampling),
        "iNoOfFourierLines": ny,
        "alRegridMode": [1, 1, 1],
        "tPatientPosition": "HFS",
        "tProtocolName": name,
    } | (xprotocol or {})
    asc = "\n".join(["### ASCCONV BEGIN ###", *(f"{key}\t = \t{value}" for key, value in values.items())])
    asc += "\n### ASCCONV END ###\n"
    dicom = {"Manufacturer": "SIEMENS", "SoftwareVersions": version}
    return {
        "Config": xml({"chronSliceIndices": "0 -1"}),
        "Dicom": xml(dicom),
        "Meas": xml(tagged),
        "MeasYaps": asc,
        "Phoenix": asc,
        "Spice": xml({"filler": "x" * 10_000}),  # text headers are long, by which readers tell VB
    }


def xml(values):
    def tag(key, value):
        parts = value if isinstance(value, list) else [value]
        if isinstance(parts[0], str):
            return f'<ParamString."{key}">  {{ "{value}"  }}'
        if isinstance(parts[0], float):
            return f'<ParamDouble."{key}">  {{ <Precision> 6  {" ".join(map(str, parts))}  }}'
        return f'<ParamLong."{key}">  {{ {" ".join(map(str, parts))}  }}'

    inner = "\n  ".join(tag(key, value) for key, value in values.items())
    return f"<XProtocol>\n{{\n  {inner}\n}}\n"


def measurement(buffers, lines, version="VD"):
    """Bytes of one measurement."""
    text = b"".join(
        name.encode() + b"\0" + struct.pack("<I", len(body) + 2) + body.encode("latin-1") + b"\n\0"
        for name, body in buffers.items()
    )
    length = (8 + len(text) + 31) // 32 * 32
    parts = [struct.pack("<II", length, len(buffers)), text.ljust(length - 8, b"\0")]
    end = np.zeros((), VD)
    end["flags"] = 1 << FLAGS["ACQEND"]
    for number, (head, data, channels) in enumerate([*lines, (end, bytes(160), ())], 1):
        parts.append(_vb(head, data, channels, number) if version == "VB" else _vd(head, data, channels, number))
    return b"".join(parts)


def _vd(head, data, channels, number):
    head = head.copy()
    head["scan_counter"] = number
    head["length"] = VD.itemsize + (len(data) if isinstance(data, bytes) else data.nbytes + 32 * len(data))
    if isinstance(data, bytes):
        return head.tobytes() + data
    block = np.zeros((), CHANNEL)
    block["length"] = 32 + data[0].nbytes
    parts = [head.tobytes()]
    for channel, values in zip(channels, data, strict=True):
        block["channel"] = channel
        parts += [block.tobytes(), values.tobytes()]
    return b"".join(parts)


def _vb(head, data, channels, number):
    new = np.zeros((), VB)
    for name in VB.names:
        if name in VD.names and name != "ice":
            new[name] = head[name]
    new["scan_counter"] = number
    if isinstance(data, bytes):
        new["length"] = VB.itemsize + len(data)
        return new.tobytes() + data
    parts = []
    for channel, values in zip(channels, data, strict=True):
        new["channel"], new["length"] = channel, VB.itemsize + values.nbytes
        parts += [new.tobytes(), values.tobytes()]
    return b"".join(parts)


def write(path, *measurements, version="VD"):
    """A file of measurements, each (buffers, lines); VB holds one."""
    bodies = [measurement(buffers, lines, version) for buffers, lines in measurements]
    if version == "VB":
        (body,) = bodies
        path.write_bytes(body)
        return path
    directory, offset, parts = struct.pack("<II", 0, len(bodies)), 10240, []
    for i, body in enumerate(bodies):
        name = measurements[i][0]["MeasYaps"].split('tProtocolName\t = \t"')[1].split('"')[0]
        directory += struct.pack("<IIQQ64s64s", i + 1, i + 1, offset, len(body), b"nobody", name.encode())
        parts.append(body + bytes(-len(body) % 512))
        offset += len(parts[-1])
    path.write_bytes(directory.ljust(10240, b"\0") + b"".join(parts))
    return path

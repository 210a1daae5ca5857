"""What inputs start from: small simulated files without fault."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

COILS, NY, NX = 3, 24, 20
SPOKES, SAMPLES = 22, 18
HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <acquisitionSystemInformation><systemVendor>V</systemVendor><systemFieldStrength_T>3</systemFieldStrength_T>
  <relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth><receiverChannels>3</receiverChannels>
  <coilLabel><coilNumber>0</coilNumber><coilName>a</coilName></coilLabel>
  <coilLabel><coilNumber>1</coilNumber><coilName>b</coilName></coilLabel>
  <coilLabel><coilNumber>2</coilNumber><coilName>c</coilName></coilLabel></acquisitionSystemInformation>
 <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>20</x><y>24</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>400</x><y>240</y><z>5</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>10</x><y>24</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>200</x><y>240</y><z>5</z></fieldOfView_mm></reconSpace>
  <encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>23</maximum><center>12</center>
  </kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory>
 </encoding>
</ismrmrdHeader>"""

FOLDER = Path(tempfile.gettempdir()) / "unset"
FILES = {
    "scan": "scan.npz",
    "map": "map.h5",
    "series": "series.h5",
    "mrd": "mrd.h5",
    "radial": "radial.h5",
    "mrd2": "scan.mrd",
    "twix VB": "vb.dat",
    "twix VD": "vd.dat",
    "dicom": "reference.dcm",
}


def use(folder: Path) -> None:
    """The folder of these files, which are made where they are missing."""
    global FOLDER
    FOLDER = folder
    if not base("dicom").exists():
        _make_scan_and_maps()
        lines = _lines()
        _make_mrd(base("mrd"), lines)
        _make_mrd(base("radial"), _radial_lines(), spokes())
        _make_mrd2(lines)
        _make_twix(lines)
        _make_dicom()


def base(kind: str) -> Path:
    """One of `FILES`."""
    return FOLDER / FILES[kind]


def weights() -> Path:
    """Of a network that comes with mrnoise."""
    from importlib.resources import files

    folder = Path(str(files("mrnoise.networks") / "weights"))
    return next(iter(sorted(folder.rglob("*.safetensors"))), folder)


def _make_scan_and_maps() -> None:
    import mrnoise
    from mrnoise.io.scans.npz import write_npz
    from mrnoise.reconstruction import Sense
    from mrnoise.simulation import simulate

    place = mrnoise.Geometry(affine=np.diag([2.0, 1.0, 3.0, 1.0]))
    scan = simulate((NY, NX), COILS, seed=1).replace(geometry=place)
    write_npz(scan, base("scan"))
    mrnoise.save(mrnoise.noise_map(Sense(), scan, method="sketch", n_samples=20), base("map"))
    frames = simulate((12, 10), 2, n_slices=4, seed=1).replace(axes=("frame",))
    mrnoise.save(mrnoise.noise_map(Sense(), frames, method="sketch", n_samples=20), base("series"))


def _lines() -> list[tuple[np.ndarray, int]]:
    """Values (coil, sample) and row; two rows of noise are negative."""
    rng = np.random.default_rng(0)
    shapes = [(2, COILS, NX if row >= 0 else 300) for row in range(-2, NY)]
    values = (rng.standard_normal(shape) for shape in shapes)
    return [((re + 1j * im).astype(np.complex64), row) for (re, im), row in zip(values, range(-2, NY), strict=True)]


def spokes() -> np.ndarray:
    """Coordinates (y and x, spoke, sample) in cycles per field of view."""
    angle, radius = np.arange(SPOKES) * np.pi / SPOKES, np.arange(SAMPLES) - SAMPLES / 2
    return np.stack([np.sin(angle), np.cos(angle)])[:, :, None] * radius


def _radial_lines() -> list[tuple[np.ndarray, int]]:
    """As `_lines`, of spokes."""
    return [(values[:, :SAMPLES] if row >= 0 else values, row) for values, row in _lines()[: SPOKES + 2]]


def _make_mrd(path: Path, lines: list[tuple[np.ndarray, int]], along: np.ndarray | None = None) -> None:
    """Along spokes where these are given."""
    with warnings.catch_warnings():  # importing it has Python show all warnings from then on
        import ismrmrd
    header = HEADER if along is None else HEADER.replace("cartesian", "radial")
    with ismrmrd.Dataset(str(path), "dataset", create_if_needed=True) as file:
        file.write_xml_header(header.encode())
        for values, row in lines:
            trajectory = None if along is None or row < 0 else along[::-1, row].T.astype(np.float32)
            line = ismrmrd.Acquisition.from_array(values, trajectory)
            line.center_sample, line.sample_time_us = NX // 2, 5.0
            line.idx.kspace_encode_step_1 = max(row, 0)
            line.read_dir[0] = line.phase_dir[1] = line.slice_dir[2] = 1
            if row < 0:
                line.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
            file.append_acquisition(line)


def _make_mrd2(lines: list[tuple[np.ndarray, int]]) -> None:
    import mrd

    def space(nx: int, width: float) -> mrd.EncodingSpaceType:
        size = mrd.FieldOfViewMm(x=width, y=240, z=5)
        return mrd.EncodingSpaceType(matrix_size=mrd.MatrixSizeType(x=nx, y=NY, z=1), field_of_view_mm=size)

    header = mrd.Header(
        experimental_conditions=mrd.ExperimentalConditionsType(h1resonance_frequency_hz=63500000),
        acquisition_system_information=mrd.AcquisitionSystemInformationType(
            system_vendor="V",
            relative_receiver_noise_bandwidth=0.8,
            receiver_channels=COILS,
            coil_label=[mrd.CoilLabelType(coil_number=i, coil_name=name) for i, name in enumerate("abc")],
        ),
        encoding=[
            mrd.EncodingType(
                encoded_space=space(NX, 400),
                recon_space=space(NX // 2, 200),
                encoding_limits=mrd.EncodingLimitsType(
                    kspace_encoding_step_1=mrd.LimitType(minimum=0, maximum=NY - 1, center=NY // 2)
                ),
                trajectory=mrd.Trajectory.CARTESIAN,
            )
        ],
    )
    axes = dict(zip(("read_dir", "phase_dir", "slice_dir"), np.eye(3, dtype=np.float32), strict=True))
    items = []
    for values, row in lines:
        head = mrd.AcquisitionHeader(
            flags=mrd.AcquisitionFlags.IS_NOISE_MEASUREMENT if row < 0 else mrd.AcquisitionFlags(0),
            idx=mrd.EncodingCounters(kspace_encode_step_1=max(row, 0)),
            center_sample=NX // 2,
            encoding_space_ref=0,
            sample_time_us=5.0,
            **axes,
        )
        items.append(mrd.StreamItem.Acquisition(mrd.Acquisition(head=head, data=values)))
    with mrd.BinaryMrdWriter(str(base("mrd2"))) as file:
        file.write_header(header)
        file.write_data(items)


def _make_twix(lines: list[tuple[np.ndarray, int]]) -> None:
    sys.path.append(str(Path(__file__).parents[2] / "tests"))
    import twix_writer

    sys.path.pop()
    for version, software in (("VB", "syngo MR B17"), ("VD", "syngo MR E11")):
        text = twix_writer.protocol((1, NY, NX // 2), (5, 240, 200), version=software)
        found = [
            twix_writer.line(values, () if row >= 0 else ["NOISEADJSCAN"], (NX // 2, NY // 2, 0), Lin=max(row, 0))
            for values, row in lines
        ]
        twix_writer.write(base(f"twix {version}"), (text, found), version=version)


def _make_dicom() -> None:
    import pydicom

    data, empty = pydicom.Dataset(), pydicom.Dataset()
    empty.CodeValue, empty.CodingSchemeDesignator, empty.CodeMeaning = "1", "99X", "none"
    data.file_meta = pydicom.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.7"
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1"
    data.StudyDate, data.StudyTime, data.AccessionNumber = "20260203", "101112.5", "A9"
    data.ReferringPhysicianName, data.PatientName, data.PatientID = "Roe^R", "Doe^Jane", "4711"
    data.PatientBirthDate, data.PatientSex, data.PatientAge, data.PatientWeight = "19700102", "F", "056Y", "61.5"
    data.StudyInstanceUID, data.StudyID, data.FrameOfReferenceUID = "1.2.3.4", "S1", "1.2.3.5"
    data.PatientPosition, data.ProcedureCodeSequence = "HFS", [empty]
    data.Rows, data.Columns, data.PixelData = 4, 4, bytes(32)
    data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 1, 16, 16, 15, 0
    data.save_as(base("dicom"), enforce_file_format=True)


def scan_arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A small scan with noise and everything that an archive may hold."""
    noise = rng.standard_normal((2, COILS, NY, NX + 30)) @ np.eye(NX + 30)
    kspace = (noise[0, :, :, :NX] + 1j * noise[1, :, :, :NX]).astype(np.complex64)
    kspace[:, NY // 2, NX // 2] += 300
    scan = (noise[0, :, :, NX:] + 1j * noise[1, :, :, NX:]).reshape(COILS, -1)
    return {
        "kspace": kspace,
        "noise": scan.astype(np.complex64),
        "mask": np.ones((NY, NX), bool),
        "coil_maps": np.ones((COILS, NY, NX), np.complex64),
        "voxel_size": np.array([5.0, 1.0, 2.0]),
        "spatial_dims": np.array(2),
    }

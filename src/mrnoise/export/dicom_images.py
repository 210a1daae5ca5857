"""One volume of a quantity as DICOM data sets: a Parametric Map, or MR images."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from mrnoise.errors import InputError
from mrnoise.result.quantities import Quantity

if TYPE_CHECKING:
    from pydicom import Dataset

PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
# RAS of an affine to LPS of DICOM.
LPS = np.array([-1.0, -1.0, 1.0])
# Coding scheme of the quantities; those that begin with 99 are private (PS3.16, chapter 8).
SCHEME = "99MRNOISE"
# Unified Code for Units of Measure.
UCUM = {"1": ("1", "no units"), "rad": ("rad", "radian"), "image units": ("[arb'U]", "arbitrary unit")}
# The only function of a window that may be narrower than 1 (PS3.3 C.11.2.1.3).
WINDOW = "LINEAR_EXACT"
NARROWEST = 1e-6
# Of int16. Values above so many medians are cut, else a few of them would leave the others without digits.
LEVELS, CUT_ABOVE = 32767, 100


@dataclass(frozen=True, eq=False)
class Volume:
    """One volume of a quantity.

    Parameters
    ----------
    values
        (z, y, x), NaN where there is no value.
    affine
        4×4, voxel (x, y, z) → mm (R, A, S).
    name, quantity
        Which.
    description
        Of the series, at most 64 characters.
    words
        How it was made.
    number
        Of the series.
    volumetric
        Whether it was measured as a volume.

    Raises
    ------
    InputError
        If rows and columns are not at right angles.
    """

    values: np.ndarray
    affine: np.ndarray
    name: str
    quantity: Quantity
    description: str
    words: str
    number: int
    volumetric: bool

    def __post_init__(self) -> None:
        x, y = self.axes
        if abs(float(x @ y)) > 1e-4:
            raise InputError(
                "DICOM images have rows and columns at right angles",
                expected="an affine without shear",
                received=f"{np.round(self.affine, 4).tolist()}",
                remedy="Save the map as .nii.gz.",
            )

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (L, P, S) along rows, x, and along columns, y."""
        x, y = (LPS * self.affine[:3, i] for i in (0, 1))
        return x / np.linalg.norm(x), y / np.linalg.norm(y)

    @property
    def spacing(self) -> list[float]:
        """Millimetres between rows and between columns."""
        return [float(np.linalg.norm(self.affine[:3, i])) for i in (1, 0)]

    @property
    def thickness(self) -> float:
        """Distance of the slices in mm."""
        return float(np.linalg.norm(self.affine[:3, 2]))

    def position(self, z: int) -> list[float]:
        """Centre of the first voxel of a slice, (L, P, S) in mm."""
        return [round(float(v), 6) for v in LPS * (self.affine @ [0, 0, z, 1])[:3]]

    @property
    def orientation(self) -> list[float]:
        """Direction cosines of rows and columns."""
        return [round(float(v), 9) for axis in self.axes for v in axis]


def parametric_map(volume: Volume, who: Dataset) -> Dataset:
    """A Parametric Map (PS3.3 A.75): float32, the values themselves, with units and meaning."""
    from pydicom import Dataset
    from pydicom.uid import generate_uid

    values = np.ascontiguousarray(volume.values, np.float32)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    image = _common(volume, who, PARAMETRIC_MAP, "OT")
    image.InstanceNumber = 1
    image.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]
    image.DeviceSerialNumber = "none"
    image.ContentQualification, image.PixelPresentation = "RESEARCH", "MONOCHROME"
    image.ContentLabel, image.ContentDescription = volume.name.upper()[:16], volume.description
    image.ContentCreatorName, image.PresentationLUTShape = "mrnoise", "IDENTITY"
    image.RecognizableVisualFeatures = "YES"
    image.LossyImageCompression = "00"
    image.AcquisitionContextSequence = []
    image.NumberOfFrames = len(values)
    image.BitsAllocated = 32
    image.FloatPixelData = values.astype("<f4").tobytes()

    organization = _item(DimensionOrganizationUID=generate_uid())
    image.DimensionOrganizationSequence = [organization]
    image.DimensionIndexSequence = [
        _item(
            DimensionIndexPointer=0x00209057,  # InStackPositionNumber
            FunctionalGroupPointer=0x00209111,  # FrameContentSequence
            DimensionOrganizationUID=organization.DimensionOrganizationUID,
            DimensionDescriptionLabel="position of the slice",
        )
    ]
    mapping = _mapping(volume, 1.0)
    mapping.DoubleFloatRealWorldValueFirstValueMapped = low
    mapping.DoubleFloatRealWorldValueLastValueMapped = high
    (thickness,) = _decimals([volume.thickness])
    shared = Dataset()
    shared.PixelMeasuresSequence = [
        _item(PixelSpacing=_decimals(volume.spacing), SliceThickness=thickness, SpacingBetweenSlices=thickness)
    ]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=_decimals(volume.orientation))]
    centre, width = _decimals([(low + high) / 2, max(high - low, NARROWEST)])
    shared.FrameVOILUTSequence = [_item(WindowCenter=centre, WindowWidth=width, VOILUTFunction=WINDOW)]
    shared.PixelValueTransformationSequence = [_item(RescaleIntercept=0, RescaleSlope=1, RescaleType="US")]
    shared.RealWorldValueMappingSequence = [mapping]
    shared.ParametricMapFrameTypeSequence = [_item(FrameType=image.ImageType)]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [
        _item(
            FrameContentSequence=[_item(StackID="1", InStackPositionNumber=z + 1, DimensionIndexValues=[z + 1])],
            PlanePositionSequence=[_item(ImagePositionPatient=_decimals(volume.position(z)))],
        )
        for z in range(len(values))
    ]
    return image


def mr_images(volume: Volume, who: Dataset) -> list[Dataset]:
    """MR images, one a slice: int16 with one slope for the series; 0 where there is no value."""
    values = np.where(np.isfinite(volume.values), volume.values, 0).astype(float)
    sizes = np.abs(values[values != 0])
    top = min(float(sizes.max()), CUT_ABOVE * float(np.median(sizes))) if sizes.size else 0.0
    # As the file will have it: a decimal string of at most 16 characters.
    slope = float(f"{top / LEVELS:.9e}") if top > 0 else 1.0
    stored = np.clip(np.rint(values / slope), -LEVELS, LEVELS).astype("<i2")
    without, cut = int((~np.isfinite(volume.values)).sum()), int((sizes > slope * (LEVELS + 0.5)).sum())
    comment = f"{volume.quantity.definition}; {without} voxels without a value are 0, {cut} above {top:.4g} are cut"
    found = []
    for z, plane in enumerate(stored):
        image = _common(volume, who, MR_IMAGE, "MR")
        image.InstanceNumber = z + 1
        image.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "RM", "NONE", ""
        image.MRAcquisitionType = "3D" if volume.volumetric else "2D"
        image.EchoTime, image.EchoTrainLength, image.RepetitionTime = None, None, None
        image.ImageComments = comment[:10240]
        image.PixelSpacing, image.SliceThickness = _decimals(volume.spacing), *_decimals([volume.thickness])
        image.SpacingBetweenSlices = image.SliceThickness
        image.ImageOrientationPatient = _decimals(volume.orientation)
        image.ImagePositionPatient = _decimals(volume.position(z))
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleIntercept, image.RescaleSlope, image.RescaleType = "0", f"{slope:.9e}", "US"
        image.VOILUTFunction = WINDOW
        image.WindowCenter, image.WindowWidth = _decimals([top / 2, max(top, NARROWEST)])
        mapping = _mapping(volume, slope)
        mapping.add_new("RealWorldValueFirstValueMapped", "SS", -LEVELS)
        mapping.add_new("RealWorldValueLastValueMapped", "SS", LEVELS)
        image.RealWorldValueMappingSequence = [mapping]
        image.add_new("PixelData", "OW", plane.tobytes())
        found.append(image)
    return found


def _common(volume: Volume, who: Dataset, sop_class: str, modality: str) -> Dataset:
    """What every instance has; ``who`` has the UID of the series besides patient and study."""
    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    image = Dataset()
    image.update(who)
    now = datetime.now()
    image.SOPClassUID, image.SOPInstanceUID, image.Modality = UID(sop_class), generate_uid(), modality
    # Whether the body part is one of a pair is not known.
    image.Laterality = ""
    image.SeriesNumber, image.SeriesDescription = volume.number, volume.description
    image.Manufacturer = image.ManufacturerModelName = "mrnoise"
    image.SoftwareVersions = version("mrnoise")
    image.DerivationDescription = volume.words[:1024]
    image.ContentDate, image.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    image.InstanceCreationDate, image.InstanceCreationTime = image.ContentDate, image.ContentTime
    image.BurnedInAnnotation = "NO"
    image.Rows, image.Columns = volume.values.shape[1:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _mapping(volume: Volume, slope: float) -> Dataset:
    """Stored value → value, its unit and what it is."""
    unit, meaning = UCUM.get(volume.quantity.unit, ("1", "no units"))
    definition = _item(
        ValueType="CODE",
        ConceptNameCodeSequence=[_code("246205007", "SCT", "Quantity")],
        ConceptCodeSequence=[_code(volume.name[:16], SCHEME, volume.quantity.definition)],
    )
    return _item(
        RealWorldValueIntercept=0.0,
        RealWorldValueSlope=slope,
        LUTExplanation=volume.quantity.definition[:64],
        LUTLabel=volume.name[:16],
        MeasurementUnitsCodeSequence=[_code(unit, "UCUM", meaning)],
        QuantityDefinitionSequence=[definition],
    )


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning[:64])


def _item(**attributes: object) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return item


def _decimals(values: list[float]) -> list[str]:
    """Decimal strings of at most 16 characters."""
    return [f"{value:.9g}"[:16] for value in values]

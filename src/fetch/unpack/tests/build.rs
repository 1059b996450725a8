//! Archives made byte by byte, so that they can be wrong.

use std::io::Write as _;

use flate2::{Compression, Crc, write::GzEncoder};

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Records of an extended header.
pub fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length =
            (rest + 1..).find(|length| length.to_string().len() + rest == *length).unwrap();
        out.extend(format!("{length} {key}=").bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

/// A tar without its end marker.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn file(self, name: impl AsRef<[u8]>, contents: &[u8]) -> Self {
        self.entry(name, b'0', contents)
    }

    pub fn entry(self, name: impl AsRef<[u8]>, kind: u8, contents: &[u8]) -> Self {
        self.header(name, kind, format!("{:011o}\0", contents.len()).as_bytes()).contents(contents)
    }

    /// A header of which the size field is given as it is.
    pub fn header(self, name: impl AsRef<[u8]>, kind: u8, size: &[u8]) -> Self {
        self.header_with(name, kind, size, |_| {})
    }

    pub fn header_with(
        mut self,
        name: impl AsRef<[u8]>,
        kind: u8,
        size: &[u8],
        change: impl Fn(&mut [u8]),
    ) -> Self {
        let mut header = [0; 512];
        let name = name.as_ref();
        header[..name.len()].copy_from_slice(name);
        header[100..108].copy_from_slice(b"0006777\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..124 + size.len()].copy_from_slice(size);
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = kind;
        header[157..168].copy_from_slice(b"/etc/passwd");
        header[257..265].copy_from_slice(b"ustar\x0000");
        change(&mut header);
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self
    }

    pub fn contents(mut self, contents: &[u8]) -> Self {
        self.0.extend_from_slice(contents);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.entry("PaxHeaders/x", b'x', &pax(records))
    }

    pub fn long_name(self, name: &[u8]) -> Self {
        self.entry("././@LongLink", b'L', name)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// One entry of a zip, whose two headers may differ.
#[derive(Clone)]
pub struct ZipEntry {
    pub name: Vec<u8>,
    pub local_name: Vec<u8>,
    pub flags: u16,
    pub method: u16,
    pub data: Vec<u8>,
    pub crc: u32,
    pub size: u32,
    pub attributes: u32,
    /// Another entry's header instead of its own.
    pub offset: Option<u32>,
}

impl ZipEntry {
    pub fn stored(name: impl AsRef<[u8]>, contents: &[u8]) -> Self {
        let name = name.as_ref().to_vec();
        Self {
            local_name: name.clone(),
            name,
            flags: 0,
            method: 0,
            data: contents.to_vec(),
            crc: crc(contents),
            size: u32::try_from(contents.len()).unwrap(),
            attributes: 0,
            offset: None,
        }
    }

    pub fn deflated(name: impl AsRef<[u8]>, contents: &[u8]) -> Self {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(contents).unwrap();
        Self { method: 8, data: encoder.finish().unwrap(), ..Self::stored(name, contents) }
    }

    fn fields(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(20_u16.to_le_bytes());
        out.extend(self.flags.to_le_bytes());
        out.extend(self.method.to_le_bytes());
        out.extend([0, 0, 0x21, 0x50]);
        out.extend(self.crc.to_le_bytes());
        out.extend(u32::try_from(self.data.len()).unwrap().to_le_bytes());
        out.extend(self.size.to_le_bytes());
        out
    }
}

/// A zip; its end record can be told another count than there are entries.
#[derive(Clone, Default)]
pub struct Zip {
    pub body: Vec<u8>,
    pub directory: Vec<u8>,
    pub count: usize,
}

impl Zip {
    pub fn of(entries: impl IntoIterator<Item = ZipEntry>) -> Self {
        entries.into_iter().fold(Self::default(), Self::with)
    }

    pub fn with(mut self, entry: ZipEntry) -> Self {
        let offset = entry.offset.unwrap_or_else(|| u32::try_from(self.body.len()).unwrap());
        if entry.offset.is_none() {
            self.body.extend(b"PK\x03\x04");
            self.body.extend(entry.fields());
            self.body.extend(u16::try_from(entry.local_name.len()).unwrap().to_le_bytes());
            self.body.extend([0, 0]);
            self.body.extend(&entry.local_name);
            self.body.extend(&entry.data);
        }
        self.directory.extend(b"PK\x01\x02\x14\x03");
        self.directory.extend(entry.fields());
        self.directory.extend(u16::try_from(entry.name.len()).unwrap().to_le_bytes());
        self.directory.extend([0; 8]);
        self.directory.extend(entry.attributes.to_le_bytes());
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(&entry.name);
        self.count += 1;
        self
    }

    pub fn end(self) -> Vec<u8> {
        if self.count > usize::from(u16::MAX) {
            self.end_with_record(0).concat()
        } else {
            self.end_small()
        }
    }

    /// With a zip64 end record that has further data of a length, which is to be put between the
    /// two parts.
    pub fn end_with_record(self, further: u64) -> [Vec<u8>; 2] {
        let (at, size) = (self.body.len(), self.directory.len());
        let mut record = b"PK\x06\x06".to_vec();
        record.extend((44 + further).to_le_bytes());
        record.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [self.count, self.count, size, at] {
            record.extend((number as u64).to_le_bytes());
        }
        let start = [self.body, self.directory, record].concat();
        let mut end = b"PK\x06\x07\0\0\0\0".to_vec();
        end.extend(((at + size) as u64).to_le_bytes());
        end.extend(1_u32.to_le_bytes());
        end.extend(b"PK\x05\x06\0\0\0\0");
        end.extend([0xff; 12]);
        end.extend([0, 0]);
        [start, end]
    }

    fn end_small(self) -> Vec<u8> {
        let (at, size) = (self.body.len(), self.directory.len());
        let count = u16::try_from(self.count).unwrap().to_le_bytes();
        let mut out = [self.body, self.directory, b"PK\x05\x06\0\0\0\0".to_vec()].concat();
        out.extend(count);
        out.extend(count);
        out.extend(u32::try_from(size).unwrap().to_le_bytes());
        out.extend(u32::try_from(at).unwrap().to_le_bytes());
        out.extend([0, 0]);
        out
    }
}
